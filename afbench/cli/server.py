"""`afbench leaderboard serve`, `work`, `migrate`, `retry` and `token`: the leaderboard's server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afbench.cli.options import AsJson, Plugins, Trust

if TYPE_CHECKING:
    from afbench.server.database import Database
    from afbench.server.scoring import BlindScoring
    from afbench.server.settings import Settings

Data = Annotated[Path, typer.Option("--data", help="The server's folder: bundles, its database.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="AFBENCH_DATABASE",
        show_envvar=True,
        help="postgresql://USER@HOST/NAME; SQLite's file in --data by default.",
    ),
]
Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]
SeasonName = Annotated[str, typer.Option("--season", help="The season's name.")]
Sealed = Annotated[
    Path | None, typer.Option("--sealed", help="The season's sealed set, for workers.")
]
Key = Annotated[Path | None, typer.Option("--key", help="The scorer's private key, for workers.")]
Cache = Annotated[Path | None, typer.Option(help="The cache (default: one inside the sealed set).")]
Isolation = Annotated[
    str, typer.Option("--sandbox", help="What isolates: auto, bubblewrap or container.")
]
Hours = Annotated[
    float, typer.Option("--limit-hours", min=0.001, help="That the scoring of one may take.")
]
_DATA, _BOARD = Path("server"), Path("leaderboard")

token = typer.Typer(help="Tokens: who may submit.", no_args_is_help=True, add_completion=False)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `afbench leaderboard`."""
    for command in (serve, work, migrate, retry):
        app.command()(command)
    app.add_typer(token, name="token")


def serve(
    season: SeasonName,
    data: Data = _DATA,
    board: Board = _BOARD,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8000,
    database: DatabaseUrl = None,
    workers: Annotated[int, typer.Option(min=0, help="Beside it; 0 for the API alone.")] = 1,
    sealed: Sealed = None,
    key: Key = None,
    cache: Cache = None,
    plugins: Plugins = None,
    sandbox: Isolation = "auto",
    trust: Trust = False,
    limit_hours: Hours = 4.0,
    max_upload: Annotated[int, typer.Option(min=1000, help="Bytes of a bundle.")] = 64_000_000,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests of a token per second.")] = 2.0,
    burst: Annotated[int, typer.Option(min=1, help="Requests of a token at once.")] = 60,
) -> None:
    """Take submissions over HTTP, and have workers score them. TLS is for a proxy before it."""
    import sys

    _needs_server()
    from afbench.leaderboard.season import read_season
    from afbench.server.serving import serve as run
    from afbench.server.settings import Settings

    read_season(board, season)
    settings = Settings(
        data, board, season, database, max_upload=max_upload, rate=rate, burst=burst
    )
    command: list[str] = []
    if workers:
        scoring = _scoring(settings, sealed, key, cache, plugins, sandbox, trust)
        command = [
            sys.executable,
            "-P",
            "-m",
            "afbench.cli.app",
            "leaderboard",
            "work",
            "--with-parent",
        ]
        command += _options_of(settings, scoring, limit_hours)
    run(settings, host, port, command, workers)


def work(
    season: SeasonName,
    data: Data = _DATA,
    board: Board = _BOARD,
    database: DatabaseUrl = None,
    sealed: Sealed = None,
    key: Key = None,
    cache: Cache = None,
    plugins: Plugins = None,
    sandbox: Isolation = "auto",
    trust: Trust = False,
    limit_hours: Hours = 4.0,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Score what waits in a server's queue. It needs the server's --data and --board."""
    _needs_server()
    from afbench.server.scoring import ChildScorer
    from afbench.server.serving import work as run
    from afbench.server.settings import Settings, WorkSettings

    settings = Settings(data, board, season, database)
    scoring = _scoring(settings, sealed, key, cache, plugins, sandbox, trust)
    times = WorkSettings(limit=3600 * limit_hours)
    run(settings, ChildScorer(scoring), scoring.sealed, times, with_parent=with_parent)


def migrate(data: Data = _DATA, database: DatabaseUrl = None) -> None:
    """Make the server's tables, or bring them up to date; `serve` and `work` do it as well."""
    _opened(data, database).close()
    print("The database is up to date.")


def retry(
    number: Annotated[str, typer.Argument(metavar="ID", help="Of a submission that failed.")],
    data: Data = _DATA,
    database: DatabaseUrl = None,
) -> None:
    """Put a submission that the server gave up on back into the queue."""
    opened = _opened(data, database)
    from afbench.errors import ServerError
    from afbench.server.queue import Queue

    if not Queue(opened, "").retry(number):
        raise ServerError(f"no submission '{number[:40]}' has failed")
    print(f"Submission {number} is in the queue again.")


@token.command("create")
def create_token(
    account: Annotated[str, typer.Argument(help="Who submits: a-z, 0-9 and dashes.")],
    data: Data = _DATA,
    database: DatabaseUrl = None,
) -> None:
    """Make a token for an account. It is shown once."""
    opened = _opened(data, database)
    from afbench.server.accounts import Accounts

    number, text = Accounts(opened).create_token(account)
    print(text)
    typer.echo(f"Token {number} of '{account}'. It is kept nowhere: hand it over now.", err=True)


@token.command("list")
def list_tokens(data: Data = _DATA, database: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Show every token's number, account and public prefix."""
    from dataclasses import asdict

    from afbench.cli.output import print_json

    opened = _opened(data, database)
    from afbench.server.accounts import Accounts

    found = Accounts(opened).tokens()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        print(f"{one.id}\t{one.account}\t{one.prefix}...\t{'revoked' if one.revoked else 'valid'}")


@token.command("revoke")
def revoke_token(
    number: Annotated[int, typer.Argument(metavar="ID", help="As 'token list' shows it.")],
    data: Data = _DATA,
    database: DatabaseUrl = None,
) -> None:
    """Have a token be of no use from now on."""
    opened = _opened(data, database)
    from afbench.server.accounts import Accounts

    one = Accounts(opened).revoke(number)
    print(f"Token {one.id} of '{one.account}' ({one.prefix}...) is revoked.")


def _opened(data: Path, url: str | None) -> Database:
    """The server's database, up to date."""
    _needs_server()
    from afbench.server.database import Database
    from afbench.server.settings import Settings

    database = Database(Settings(data, _BOARD, "", url).url)
    database.migrate()
    return database


def _scoring(
    settings: Settings,
    sealed: Path | None,
    key: Path | None,
    cache: Path | None,
    plugins: list[Path] | None,
    sandbox: str,
    trust: bool,
) -> BlindScoring:
    """What workers score by, after everything that can be checked now was."""
    from afbench.errors import ServerError
    from afbench.leaderboard.keys import load_signing_key
    from afbench.leaderboard.sealed_set import check_sealed
    from afbench.sandbox.choose import choose
    from afbench.server.scoring import BlindScoring

    if sealed is None or key is None:
        raise ServerError("workers need --sealed and --key", fix="or 'serve' with --workers 0")
    load_signing_key(key)
    check_sealed(settings.board, sealed, settings.season)
    secret = (settings.data.absolute(),)
    choose(sandbox, trust=trust, secret=(sealed, key, *secret))
    return BlindScoring(
        settings.board.absolute(), settings.season, sealed.absolute(), key.absolute(), secret,
        None if cache is None else cache.absolute(),
        tuple(path.absolute() for path in plugins or ()), sandbox, trust,
    )  # fmt: skip


def _options_of(settings: Settings, scoring: BlindScoring, hours: float) -> list[str]:
    """The command line of a worker. The database's URL is not on it: others could read it."""
    given = {
        "--season": settings.season, "--data": settings.data, "--board": scoring.board,
        "--sealed": scoring.sealed, "--key": scoring.key, "--sandbox": scoring.sandbox,
        "--limit-hours": hours,
    }  # fmt: skip
    options = [text for name, value in given.items() for text in (name, str(value))]
    if scoring.cache is not None:
        options += ["--cache", str(scoring.cache)]
    for path in scoring.plugins:
        options += ["--plugins", str(path)]
    return [*options, "--trust"] if scoring.trust else options


def _needs_server() -> None:
    """Raises AfbenchError where what a server needs is not installed."""
    from importlib.util import find_spec

    from afbench.errors import ServerError

    needed = ("cryptography", "fastapi", "uvicorn", "sqlalchemy", "alembic", "psycopg")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ServerError(
            f"the server needs {', '.join(missing)}", fix="pip install 'afbench[server]'"
        )
