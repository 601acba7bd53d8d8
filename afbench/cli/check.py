"""`afbench check` and `afbench baseline`: is a detector still as good as it was?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from afbench.cli.options import AsJson, Cache, Out, Plugins

if TYPE_CHECKING:
    from afbench.cli.progress import TerminalProgress
    from afbench.regression.check import Machine, Question
    from afbench.regression.report import Report

EXIT_WORSE: Final = 1

baseline = typer.Typer(
    name="baseline",
    help="Keep what detectors score now, for 'afbench check' to compare with.",
    no_args_is_help=True,
    add_completion=False,
)

Detectors = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        "-d",
        help="A detector's name, or the folder of one or of a saved one; may be repeated.",
    ),
]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that score folds side by side.")]
Model = Annotated[
    str | None,
    typer.Option(help="A hub id or a folder: the model that prompted organisms are put on."),
]
Revision = Annotated[str | None, typer.Option(help="The commit of a hub's --model.")]
Backend = Annotated[
    str | None,
    typer.Option(help="transformers or vllm (default: the baseline's; else transformers)."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda (default: the baseline's; else cpu).")
]
Dtype = Annotated[
    str | None, typer.Option(help="Precision (default: the baseline's; else float32).")
]


def check(
    baselines: Annotated[
        list[Path],
        typer.Option(
            "--baseline", metavar="FILE", help="What 'afbench baseline save' wrote; repeatable."
        ),
    ],
    detector: Detectors = None,
    rival: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="The baseline's detector to compare with (default: the one of the same name, or "
            "its only one).",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="auroc, tpr-at-1, tpr-at-5, pairs, brier, fpr, or fpr:CLASS of a lookalike class; "
            "may be repeated (default: auroc)."
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            help="The drop that is tolerated, in the metric's unit: 0.05, or METRIC=0.05 for one; "
            "may be repeated (default: 0.02)."
        ),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as Markdown too.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as JUnit XML too.")
    ] = None,
    jobs: Jobs = 1,
    model: Model = None,
    revision: Revision = None,
    backend: Backend = None,
    device: Device = None,
    dtype: Dtype = None,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run a baseline's cells again and compare, paired on the same cases.

    Exit code 0: not worse. 1: worse, and it says in which metric, on which organism and by how
    much. 2: it could not run.
    """
    from afbench.cli.output import print_json
    from afbench.errors import AfbenchError
    from afbench.regression.check import DEFAULT_METRIC, Question
    from afbench.regression.junit import junit_of_error
    from afbench.regression.markdown import markdown_of_error

    question = Question(
        baselines=baselines,
        detectors=detector or (),
        against=rival,
        metrics=metric or (DEFAULT_METRIC,),
        max_drop=max_drop or (),
    )
    started = time.perf_counter()
    try:
        with _no_unexpected_errors(), _progress(quiet=as_json) as progress:
            machine = _machine(
                progress, cache, plugins, model, revision, jobs, backend, device, dtype
            )
            shown = _shown(question, machine, started)
    except AfbenchError as error:
        seconds = time.perf_counter() - started
        with suppress(AfbenchError):  # why it could not run matters more than where that is written
            _write(markdown, markdown_of_error(str(error)))
            _write(junit, junit_of_error(str(error), seconds))
        raise
    _write(markdown, shown.markdown)
    _write(junit, shown.junit)
    if as_json:
        print_json({"verdict": shown.report.verdict, **shown.report.model_dump(mode="json")})
    else:
        print(shown.text)
    if shown.report.worse:
        raise typer.Exit(EXIT_WORSE)


@dataclass(frozen=True, slots=True)
class _Shown:
    report: Report
    text: str
    markdown: str
    junit: str


def _shown(question: Question, machine: Machine, started: float) -> _Shown:
    """The report in every form."""
    from afbench.regression.check import check as run_check
    from afbench.regression.junit import junit
    from afbench.regression.markdown import markdown
    from afbench.regression.report import text

    report = run_check(question, machine)
    seconds = time.perf_counter() - started
    return _Shown(report, text(report), markdown(report), junit(report, seconds))


@contextmanager
def _no_unexpected_errors() -> Iterator[None]:
    """Any exception becomes an expected error: others end with the code that means "worse"."""
    from afbench.errors import AfbenchError

    try:
        yield
    except AfbenchError:
        raise
    except Exception as error:
        raise AfbenchError(
            f"unexpected error: {type(error).__name__}: {error}",
            fix="add --debug for the traceback",
        ) from error


def _write(path: Path | None, content: str) -> None:
    from afbench.store import write_bytes

    if path is not None:
        write_bytes(path, content.encode())


def _progress(*, quiet: bool) -> TerminalProgress:
    from afbench.cli.progress import TerminalProgress

    return TerminalProgress(quiet=quiet)


@baseline.callback()
def _group() -> None:
    """Keeps `save` a sub-command, though it is the only one."""


@baseline.command()
def save(
    into: Annotated[Path, typer.Option(metavar="FILE", help="The baseline, a JSON file.")],
    detector: Detectors = None,
    organism: Annotated[
        str | None, typer.Option("--organism", "-o", help="A faker's name, or 'all': run it now.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A finished run, instead of --organism: runs/<id>."),
    ] = None,
    split: Annotated[str, typer.Option(help="As for 'afbench run'.")] = "recipe",
    fit_scenarios: Annotated[int, typer.Option(min=1, help="Scenarios of each fit organism.")] = 60,
    test_scenarios: Annotated[
        int, typer.Option(min=1, help="Scenarios of each test organism.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of every interval.")] = 0,
    out: Out = Path("runs"),
    jobs: Jobs = 1,
    model: Model = None,
    revision: Revision = None,
    backend: Backend = None,
    device: Device = None,
    dtype: Dtype = None,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Write scores of every case, and all that is needed to run the same cells again.

    Of a finished run (--run), or of one that is made now (--detector and --organism).
    """
    from afbench.cli.output import print_json
    from afbench.errors import AfbenchError
    from afbench.regression.measuring import choose_detectors
    from afbench.regression.saving import baseline_of, run_and_save
    from afbench.results.record import RunSettings

    if (run is None) == (organism is None):
        raise AfbenchError(
            "a baseline is of a finished run or of one that is made now",
            where="--run, --organism",
            fix="give one of the two",
        )
    if run is None and not detector:
        raise AfbenchError("no detector is named", where="--detector", fix="name one")
    with _progress(quiet=as_json) as progress:
        machine = _machine(progress, cache, plugins, model, revision, jobs, backend, device, dtype)
        if run is not None:
            chosen = choose_detectors(detector, machine.catalog) if detector else None
            made = baseline_of(run, machine, chosen)
        else:
            settings = RunSettings(
                detectors=detector or [],
                organism=organism or "",
                split=split,
                fit_scenarios=fit_scenarios,
                test_scenarios=test_scenarios,
                seed=seed,
                floors=False,
                robustness=False,
                behaviour_reading=False,
                model=machine.model.label if machine.model else None,
            )
            made = run_and_save(settings, machine, out)
    made.save(into)
    if as_json:
        print_json({"path": str(into), "digest": made.digest, "detectors": list(made.detectors)})
        return
    print(
        f"{', '.join(made.detectors)}: {len(made.cases)} cases of "
        f"{len(set(made.cases.organism))} organisms, {len(made.folds)} folds."
    )
    print(f"Saved: {into}. Next: afbench check --baseline {into}")


def _machine(
    progress: TerminalProgress,
    cache: Path | None,
    plugins: list[Path] | None,
    model: str | None,
    revision: str | None,
    jobs: int,
    backend: str | None,
    device: str | None,
    dtype: str | None,
) -> Machine:
    from afbench.catalog.discovery import discover
    from afbench.errors import AfbenchError
    from afbench.models.user_model import user_model
    from afbench.regression.check import Machine
    from afbench.store import Store, default_cache

    if revision is not None and model is None:
        raise AfbenchError("a revision is that of a model", where="--revision", fix="give --model")
    return Machine(
        catalog=discover(plugins or ()),
        store=Store(cache if cache is not None else default_cache()),
        progress=progress,
        model=user_model(model, revision) if model is not None else None,
        jobs=jobs,
        backend=backend,
        device=device,
        dtype=dtype,
    )
