"""`afbench organisms trace`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afbench.cli.options import AsJson, Cache, Plugins

if TYPE_CHECKING:
    from afbench.zoo.trace_record import Trace

app = typer.Typer(add_completion=False)


@app.command()
def trace(
    name: Annotated[str, typer.Argument(help="An organism with a supervised LoRA recipe.")],
    every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints (default: about 30).")
    ] = None,
    scales: Annotated[str, typer.Option(help="What the adapter is multiplied by.")] = "1,2,5,10",
    scenarios: Annotated[int, typer.Option(min=1, help="Test scenarios of each environment.")] = 12,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it goes (default: runs/trace-NAME).")
    ] = None,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Retrain an organism, and see when its adapter turns and when its behaviour sets in.

    The shipped weights stay as they are. A trace that was killed goes on where it was.
    """
    from afbench.catalog.discovery import discover
    from afbench.cli.output import print_json
    from afbench.cli.progress import TerminalProgress
    from afbench.store import Store, default_cache
    from afbench.zoo.trace import trace_organism

    catalog = discover(plugins or ())
    plugin = catalog.get("organism", name)
    factors = _numbers(scales)
    folder = into if into is not None else Path("runs") / f"trace-{name}"
    store = Store(cache if cache is not None else default_cache())
    with TerminalProgress(quiet=as_json) as progress:
        found = trace_organism(
            plugin,
            catalog,
            store,
            folder,
            progress,
            every=every,
            scales=factors,
            scenarios=scenarios,
        )
    path = _write(found, folder)
    if as_json:
        print_json({**found.model_dump(mode="json"), "path": str(path)})
        return
    _print(found)
    print(f"Trace: {path} (with trace.md, trace.svg and checkpoints/)")


def _numbers(text: str) -> list[float]:
    from afbench.errors import AfbenchError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise AfbenchError(
            f"'{text}' is no list of numbers", where="--scales", fix="write it as 1,2,5,10"
        ) from None


def _write(found: Trace, folder: Path) -> Path:
    """Write trace.svg, trace.md and, last, trace.json, whose path is returned."""
    from afbench.figures.trace_plot import trace_plot
    from afbench.store import write_bytes
    from afbench.zoo.trace_record import write_trace
    from afbench.zoo.trace_report import curves_of, markdown

    plot = trace_plot(
        curves_of(found),
        title=f"Trace of {found.organism}",
        statement=found.transition.statement,
    )
    write_bytes(folder / "trace.svg", plot.encode())
    write_bytes(folder / "trace.md", markdown(found).encode())
    return write_trace(found, folder)


def _print(found: Trace) -> None:
    from afbench.cli.output import print_table
    from afbench.zoo.trace_report import peak_rows

    print_table(
        f"Trace of {found.organism}: {found.steps} steps, {len(found.checkpoints)} checkpoints",
        ("what", "steps", "found"),
        peak_rows(found),
    )
    print(f"Reproduces the shipped adapter: {found.reproduction.detail}.")
    print(found.transition.statement)
