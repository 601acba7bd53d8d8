"""`afbench leaderboard build` and `curves`: the static site, and what it needs of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from afbench.cli.options import Plugins

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]
_BOARD = Path("leaderboard")
_OUT = Path("site")


def build(
    board: Board = _BOARD,
    out: Annotated[Path, typer.Option("--out", help="The site's folder.")] = _OUT,
    base_url: Annotated[
        str, typer.Option(help="Where it will stand on its host; only 404.html needs it.")
    ] = "/",
    source: Annotated[
        str | None, typer.Option(help="Address of the repository's files, for links to documents.")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Make the leaderboard's static site: plain files that need no server and no other host."""
    from afbench.catalog.discovery import discover
    from afbench.site.build import check_replaceable, write_site
    from afbench.site.content import read_content
    from afbench.site.pages import Site

    place, files = _place(base_url), _web(source)
    check_replaceable(out)
    site = Site(read_content(board), discover(plugins or ()), base_url=place, source=files)
    built = write_site(out, site.files())
    print(
        f"{built.files} files, {built.bytes / 1e6:.1f} MB, the first page "
        f"{built.first_page / 1e3:.0f} kB. Open {built.folder / 'index.html'}"
    )


def curves(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, with their scores.json.")],
    board: Board = _BOARD,
) -> None:
    """Keep ROC curves and paired comparisons beside the records that runs are of."""
    from afbench.results.record import load_record
    from afbench.results.score_file import NAME, read_scores
    from afbench.site.curves import curves_of, place_of
    from afbench.store import write_json

    for run in runs:
        record = load_record(run / "result.json")
        path = place_of(board, record)
        made = curves_of(record, read_scores(run / NAME))
        write_json(path, made.model_dump(mode="json"))
        print(f"{len(made.roc)} curves: {path}")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `afbench leaderboard`."""
    app.command()(build)
    app.command()(curves)


def _place(base_url: str) -> str:
    """The path of a base URL, with a slash at both ends.

    Raises:
        LeaderboardError: it is neither a path nor an address.
    """
    from urllib.parse import urlsplit

    from afbench.errors import LeaderboardError

    try:
        parts = urlsplit(base_url)
        known = parts.scheme in ("http", "https") if parts.scheme else base_url.startswith("/")
    except ValueError:
        known = False
    if not known or not base_url.isprintable() or base_url.startswith("//"):
        raise LeaderboardError(
            f"'{base_url[:60]}' is no path and no address",
            where="--base-url",
            fix="such as /board/",
        )
    return f"/{parts.path.strip('/')}/" if parts.path.strip("/") else "/"


def _web(source: str | None) -> str | None:
    """An address that names can be put after.

    Raises:
        LeaderboardError: it is no http or https address.
    """
    from afbench.errors import LeaderboardError

    if source is None:
        return None
    if not source.startswith(("https://", "http://")) or not source.isprintable():
        raise LeaderboardError(f"'{source[:60]}' is no http address", where="--source")
    return source.rstrip("/") + "/"
