"""`afbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from afbench.cli.options import AsJson, Plugins


def run(
    detector: Annotated[
        list[str],
        typer.Option("--detector", "-d", help="A detector's name, or 'all'; may be repeated."),
    ],
    organism: Annotated[
        str, typer.Option("--organism", "-o", help="A faker's name, or 'all' for the whole zoo.")
    ] = "all",
    split: Annotated[
        str,
        typer.Option(
            help="How fit and test are kept apart: in-distribution, organism, recipe, environment "
            "or cue."
        ),
    ] = "recipe",
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
    model: Annotated[
        str | None,
        typer.Option(
            help="A hub id, or the folder of a transformers model. Organisms are system prompts on "
            "it then; one with weights is stood for by the one that it names as prompted_as."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="The commit of a hub's --model (default: the newest).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where runs are written.")] = Path("runs"),
    cache: Annotated[
        Path | None, typer.Option(help="The cache (default: AFBENCH_CACHE or the user's).")
    ] = None,
    fresh: Annotated[
        bool, typer.Option(help="Evaluate again even if this run's result is there.")
    ] = False,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Score detectors on an organism against its lookalikes, or on the whole zoo.

    The detector is fitted on the rest of the zoo without the organism's recipe family (--split).
    """
    from afbench.catalog.discovery import discover
    from afbench.cli.output import print_json
    from afbench.cli.progress import TerminalProgress
    from afbench.errors import AfbenchError
    from afbench.models.user_model import user_model
    from afbench.results.record import RunSettings
    from afbench.results.run import run as execute
    from afbench.results.table import print_record
    from afbench.store import Store, default_cache

    if revision is not None and model is None:
        raise AfbenchError("a revision is that of a model", where="--revision", fix="give --model")
    catalog = discover(plugins or ())
    chosen = user_model(model, revision) if model is not None else None
    settings = RunSettings(
        detectors=list(dict.fromkeys(detector)),
        organism=organism,
        split=split,
        fit_scenarios=fit_scenarios,
        test_scenarios=test_scenarios,
        seed=seed,
        floors=floors,
        temperature=temperature,
        reasoning=reasoning,
        show_reasoning=show_reasoning,
        robustness=robustness,
        model=chosen.label if chosen else None,
    )
    store = Store(cache if cache is not None else default_cache())
    with TerminalProgress(quiet=as_json) as progress:
        outcome = execute(settings, catalog, store, out, progress, model=chosen, fresh=fresh)
    if as_json:
        print_json({**outcome.record.model_dump(mode="json"), "path": str(outcome.path)})
        return
    print_record(outcome.record)
    if outcome.reused:
        print("This run was there already and nothing was computed (--fresh evaluates again).")
    same = f" --model {model}" if model else ""
    print(f"Next: afbench run -d {detector[0]} -o all{same}, or --split environment|cue|organism.")
    print(f"Result: {outcome.path}")
