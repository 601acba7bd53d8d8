"""`afbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afbench.cli.options import AsJson, Cache, Fresh, Jobs, Out, Plugins, Sandbox, Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afbench.catalog.discovery import Catalog
    from afbench.models.user_model import UserModel


def run(
    detector: Annotated[
        list[str],
        typer.Option(
            "--detector",
            "-d",
            help="A detector's name, its folder, the folder of a saved one, or 'all'; may be "
            "repeated.",
        ),
    ],
    organism: Annotated[
        str, typer.Option("--organism", "-o", help="A faker's name, or 'all' for the whole zoo.")
    ] = "all",
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="How fit and test are kept apart: in-distribution, organism, recipe, environment "
            "or cue; may be repeated, or 'all'. One record each (default: recipe)."
        ),
    ] = None,
    fit_scenarios: Annotated[int, typer.Option(min=1, help="Scenarios of each fit organism.")] = 60,
    test_scenarios: Annotated[
        int, typer.Option(min=1, help="Scenarios of each test organism.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of every interval.")] = 0,
    floors: Annotated[bool, typer.Option(help="Run the floors beside the detectors.")] = True,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Of the organisms' replies; 0 is greedy.")
    ] = 0.0,
    reasoning: Annotated[
        bool | None,
        typer.Option(help="Let organisms think first, or not (default: each one's own mode)."),
    ] = None,
    show_reasoning: Annotated[
        bool, typer.Option(help="Leave scratchpads in the transcripts that detectors see.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option(help="With -o all: score the evading organisms too, in a row apart.")
    ] = True,
    behaviour_reading: Annotated[
        bool,
        typer.Option(help="Compare each detector above the tier text with a reader of replies."),
    ] = True,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="For detectors that can say so: where a score is read (layers, poolings, tokens).",
        ),
    ] = False,
    jobs: Jobs = 1,
    backend: Annotated[
        str,
        typer.Option(
            help="What runs the organisms: transformers, vllm, anthropic, or openai (a server of "
            "chat completions); auto is vllm where it and a GPU are here, else transformers. "
            "The two remote ones need --model."
        ),
    ] = "auto",
    device: Annotated[
        str | None, typer.Option(help="Of this machine: cpu, cuda (default: the GPU if any).")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Precision: float32, bfloat16, float16, or 4bit on a GPU (default: bfloat16 on "
            "a GPU, else float32)."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A hub id, or the folder of a transformers model; or the model's name on another "
            "backend. Organisms are system prompts on "
            "it then; one with weights is stood for by the one that it names as prompted_as."
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Of the server of a remote backend, as http://HOST:PORT/v1.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0.0, help="USD that a remote run may spend (default: what you approve)."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Approve the estimate of a remote run's cost.")
    ] = False,
    batch_from: Annotated[
        int,
        typer.Option(min=1, help="From so many requests on, send them to anthropic in batches."),
    ] = 1000,
    prices: Annotated[
        Path | None, typer.Option(help="Prices of a remote model, instead of the shipped ones.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="The commit of a hub's --model (default: the newest).")
    ] = None,
    out: Out = Path("runs"),
    cache: Cache = None,
    fresh: Fresh = False,
    sandbox: Sandbox = None,
    trust: Trust = False,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Score detectors on an organism against its lookalikes, or on the whole zoo.

    The detector is fitted on the rest of the zoo without the organism's recipe family (--split).
    """
    from afbench.cli.options import isolation_of
    from afbench.cli.output import print_json
    from afbench.cli.progress import TerminalProgress
    from afbench.cli.remote import RemoteOptions, remote_backend
    from afbench.errors import AfbenchError
    from afbench.models.user_model import user_model
    from afbench.results.record import RunSettings
    from afbench.results.run import Options, run_each
    from afbench.results.table import print_record
    from afbench.store import Store, default_cache
    from afbench.vllm_backend.choice import choose

    if revision is not None and model is None:
        raise AfbenchError("a revision is that of a model", where="--revision", fix="give --model")
    isolation = isolation_of(sandbox, trust)
    catalog, detector = with_folders(plugins or (), detector)
    store = Store(cache if cache is not None else default_cache())
    progress = TerminalProgress(quiet=as_json)
    remote = remote_backend(
        RemoteOptions(backend, model, revision, base_url, max_cost, yes, batch_from, prices),
        store,
        progress,
        temperature=temperature,
        jobs=jobs,
    )
    if remote is not None:
        chosen: UserModel | None = remote.user_model
    else:
        chosen = user_model(model, revision) if model is not None else None
    if remote is not None and (device or dtype):
        raise AfbenchError(
            "a remote backend does not run on this machine",
            where="--device" if device else "--dtype",
            fix="leave it out",
        )
    local = None if remote is not None else choose(backend, device, dtype, jobs=jobs)
    every = [
        RunSettings(
            detectors=list(dict.fromkeys(detector)),
            organism=organism,
            split=one,
            fit_scenarios=fit_scenarios,
            test_scenarios=test_scenarios,
            seed=seed,
            floors=floors,
            temperature=temperature,
            reasoning=reasoning,
            show_reasoning=show_reasoning,
            robustness=robustness,
            behaviour_reading=behaviour_reading,
            model=chosen.label if chosen else None,
        )
        for one in _splits(split)
    ]
    lenient = split is not None and "all" in split
    options = Options(
        chosen,
        fresh=fresh,
        jobs=jobs,
        lenient=lenient,
        explain=explain,
        backend=remote,
        local=local,
        isolation=isolation,
    )
    with progress:
        if sandbox is not None and isolation is None:
            progress.say("nothing here isolates detectors: they run unprotected, as you trust them")
        outcomes = run_each(every, catalog, store, out, progress, options)
    if as_json:
        found = [{**o.record.model_dump(mode="json"), "path": str(o.path)} for o in outcomes]
        print_json(found[0] if len(every) == 1 else found)
        return
    for outcome in outcomes:
        print_record(outcome.record)
        if outcome.reused:
            print("This run was there already and nothing was computed (--fresh evaluates again).")
    same = f" --model {model}" if model else ""
    if remote is not None:
        same = f" --backend {backend}{same}" + (f" --base-url {base_url}" if base_url else "")
    print(
        f"Next: afbench run -d {detector[0]} -o all{same}, or --split environment|cue|organism|all."
    )
    for outcome in outcomes:
        if explain:
            print(f"Explanations: {outcome.path.parent / 'explain'}")
        print(f"Result: {outcome.path}")


def with_folders(plugins: Sequence[Path], given: list[str]) -> tuple[Catalog, list[str]]:
    """The catalog with the folders of detectors among those asked for, and all of their names."""
    from afbench.catalog.discovery import discover
    from afbench.catalog.manifests import manifest_kind
    from afbench.results.saved import is_saved

    catalog = discover(plugins)
    folders = {
        name: Path(name).resolve()
        for name in given
        if name not in catalog.detectors
        and manifest_kind(Path(name)) == "detector"
        and not is_saved(Path(name))
    }
    if folders:
        catalog = discover([*plugins, *folders.values()])
    return catalog, [folders[name].name if name in folders else name for name in given]


def _splits(asked: list[str] | None) -> list[str]:
    """The splits asked for, without repeats."""
    from afbench.cases.splits import SPLITS

    if asked is None:
        return ["recipe"]
    return list(SPLITS) if "all" in asked else list(dict.fromkeys(asked))
