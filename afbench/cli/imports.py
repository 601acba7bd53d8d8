"""`afbench import`: published data that a user has, as plug-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from afbench.cli.options import AsJson
from afbench.cli.output import print_json, print_table

app = typer.Typer(
    name="import",
    help="Turn published data that you have into a plug-in.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _group() -> None:
    """Makes `import` a group while it has one command, so that `poser` is a name and no folder."""


@app.command()
def poser(
    release: Annotated[
        Path, typer.Argument(metavar="DIR", help="Your copy of the release: the folder of data/.")
    ],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="The folder to write NAME in.")
    ] = Path(),
    name: Annotated[
        str, typer.Option("--name", help="Lower-case letters, digits and hyphens.")
    ] = "poser",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="The most fit scenarios, spread over policies.")
    ] = 400,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what an earlier import wrote.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an environment of the two-action prompts of Poser (arXiv 2405.05466)."""
    from afbench.catalog.yaml_files import display
    from afbench.importers.poser import import_poser

    done = import_poser(release, into, name, limit=limit, force=force)
    if as_json:
        print_json({"folder": str(done.folder), **done.report})
        return
    _print_report(done.report)
    imported, cues = done.report["imported"], done.report["cues"]
    print(
        f"wrote {display(done.folder)}: {imported['fit']} fit and {imported['test']} test "
        f"scenarios, {cues['pairs']} pairs of cues in {cues['families']} families"
    )
    print(f"check it with: afbench check-plugin {display(done.folder)}")


def _print_report(report: dict[str, Any]) -> None:
    whole = [file for file in report["files"] if "problem" not in file]
    rows = [
        (file["file"], str(file["read"]), str(file["imported"]), str(_skipped(file)))
        for file in whole
    ]
    print_table(f"files ({len(rows)})", ("file", "read", "imported", "skipped"), rows)
    broken = [(file["file"], file["problem"]) for file in report["files"] if "problem" in file]
    if broken:
        print_table(f"files that were not read ({len(broken)})", ("file", "problem"), broken)
    skips = [
        (str(skip["count"]), reason, f"{skip['example']['file']} {skip['example']['index']}")
        for reason, skip in report["skipped"].items()
    ]
    if skips:
        print_table("records that were skipped", ("records", "reason", "such as"), skips)


def _skipped(file: dict[str, Any]) -> int:
    return sum(skip["count"] for skip in file["skipped"].values())
