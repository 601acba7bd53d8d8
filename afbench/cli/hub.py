"""`afbench organisms pin` and `fetch`: organisms whose weights lie on a model hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from afbench.cli.options import Plugins

if TYPE_CHECKING:
    from afbench.cli.progress import TerminalProgress

app = typer.Typer(add_completion=False)

Names = Annotated[list[str], typer.Argument(help="Organisms whose source has type 'hub'.")]


@app.command()
def pin(names: Names, plugins: Plugins = None) -> None:
    """Write the hub's present commit and digests into the manifests of hub organisms."""
    from afbench.catalog.discovery import discover
    from afbench.models.hub_organisms import hub_source, pin_organism

    catalog = discover(plugins or ())
    chosen = [catalog.get("organism", name) for name in names]
    for plugin in chosen:
        hub_source(plugin)  # a name that is wrong stops it before anything is written
    for plugin in chosen:
        for repo_id, commit in pin_organism(plugin).items():
            print(f"{plugin.name}: {repo_id}@{commit}")
    print(f"Next: afbench organisms fetch {' '.join(names)}")


@app.command()
def fetch(names: Names, plugins: Plugins = None) -> None:
    """Download hub organisms into the hub's cache, and say where they lie."""
    from afbench.catalog.discovery import discover
    from afbench.cli.progress import TerminalProgress
    from afbench.models.hub_organisms import fetch_organism, hub_source

    catalog = discover(plugins or ())
    chosen = [catalog.get("organism", name) for name in names]
    for plugin in chosen:
        hub_source(plugin)
    for plugin in chosen:
        with TerminalProgress() as progress:
            files = fetch_organism(plugin, announce=progress.say, progress=_Bars(progress))
        print(f"{plugin.name}: model in {files.model}")
        if files.adapter is not None:
            print(f"{plugin.name}: adapter in {files.adapter}")


class _Bars:
    """The progress of each repository, in MB."""

    def __init__(self, progress: TerminalProgress) -> None:
        self._progress = progress
        self._shown: dict[str, int] = {}

    def __call__(self, repo_id: str, done: int, total: int) -> None:
        stage, here = f"{repo_id}, MB", done // 10**6
        if stage not in self._shown:
            self._shown[stage] = 0
            self._progress.start(stage, -(-total // 10**6))
        self._progress.advance(stage, here - self._shown[stage])
        self._shown[stage] = here
