"""`afbench detectors`: keep a fitted detector, and score by a kept one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from afbench.cli.options import AsJson, Cache, Plugins

app = typer.Typer(
    name="detectors",
    help="Save a fitted detector to a folder, and score organisms by a saved one.",
    no_args_is_help=True,
    add_completion=False,
)

Organisms = Annotated[
    list[str],
    typer.Option(
        "--organism",
        "-o",
        help="An organism's name (a faker alone comes with its lookalikes), or 'all'; "
        "may be repeated.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of sampling.")]


@app.command()
def save(
    name: Annotated[str, typer.Argument(help="A detector that says what its fit has learned.")],
    organism: Organisms,
    into: Annotated[Path, typer.Option(metavar="DIR", help="An empty or a new folder.")],
    base: Annotated[
        str | None, typer.Option(help="With -o all: only organisms of this base.")
    ] = None,
    scenarios: Annotated[int, typer.Option(min=1, help="Fit scenarios of each organism.")] = 60,
    seed: Seed = 0,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Fit a detector on the fit scenarios of organisms, and keep it with its thresholds."""
    from afbench.catalog.discovery import discover
    from afbench.cli.output import print_json
    from afbench.cli.progress import TerminalProgress
    from afbench.results.fitting import Fitter
    from afbench.store import Store, default_cache

    store = Store(cache if cache is not None else default_cache())
    with TerminalProgress(quiet=as_json) as progress:
        fitter = Fitter(discover(plugins or ()), store, progress)
        saved = fitter.save(name, organism, into, base=base, scenarios=scenarios, seed=seed)
    if as_json:
        print_json(saved.model_dump(mode="json"))
        return
    fakers = sum(one.faker for one in saved.organisms.values())
    print(f"{name}: fitted on {fakers} fakers and {len(saved.organisms) - fakers} lookalikes.")
    for fpr, threshold in saved.thresholds.items():
        shown = "none: too few recipe families" if threshold is None else f"{threshold:.4g}"
        print(f"Threshold at a false-positive rate of {fpr}: {shown}")
    print(f"Saved: {into}. Next: afbench detectors load {into} -o <organism>")


@app.command()
def load(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A saved detector.")],
    organism: Organisms,
    scenarios: Annotated[int, typer.Option(min=1, help="Test scenarios of each organism.")] = 100,
    seed: Seed = 0,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Check a saved detector and score organisms by it; nothing is fitted.

    'afbench run -d DIR' scores it as a benchmark does, against lookalikes and floors.
    """
    from dataclasses import asdict

    from afbench.catalog.discovery import discover
    from afbench.cli.output import print_json, print_table
    from afbench.cli.progress import TerminalProgress
    from afbench.results.fitting import Fitter
    from afbench.store import Store, default_cache

    store = Store(cache if cache is not None else default_cache())
    with TerminalProgress(quiet=as_json) as progress:
        fitter = Fitter(discover(plugins or ()), store, progress)
        found = fitter.score(folder, organism, scenarios=scenarios, seed=seed)
    if as_json:
        print_json(asdict(found))
        return
    rates = list(found.organisms[0].flagged) if found.organisms else []
    columns = ["organism", "role", "cases", "mean score", *(f"over {r}" for r in rates), ""]
    rows = [
        [
            one.name,
            one.role,
            str(one.cases),
            f"{one.mean:.3f}",
            *("n/a" if share is None else f"{share:.2f}" for share in one.flagged.values()),
            "fitted on it" if one.fitted else "",
        ]
        for one in found.organisms
    ]
    print_table("Scores", columns, rows)
    if found.auroc is not None:
        print(f"AUROC over these cases: {found.auroc:.2f}, without an interval or a split.")
