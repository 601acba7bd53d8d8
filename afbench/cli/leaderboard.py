"""`afbench leaderboard`: keys, entries and seasons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afbench.cli import server, site
from afbench.cli.options import AsJson, Plugins, Sandbox, Trust

if TYPE_CHECKING:
    from afbench.leaderboard.entry import Half, Status

app = typer.Typer(
    name="leaderboard",
    help="Sign and check entries; seal, score and reveal a season; serve submissions; the site.",
    no_args_is_help=True,
    add_completion=False,
)

Board = Annotated[Path, typer.Option("--board", help="The leaderboard's folder.")]
Key = Annotated[Path, typer.Option("--key", help="The scorer's private key.")]
SeasonName = Annotated[str, typer.Option("--season", help="The season's name.")]
SealedFolder = Annotated[
    Path, typer.Option("--sealed", help="The season's sealed set, outside of every checkout.")
]
Cache = Annotated[Path | None, typer.Option(help="The cache (default: one inside the sealed set).")]
_BOARD = Path("leaderboard")


@app.command()
def keygen(
    private: Annotated[Path, typer.Argument(help="A new file for the private key.")],
    name: Annotated[str, typer.Option(help="Of the public key's file in keys/.")] = "scorer",
    board: Board = _BOARD,
) -> None:
    """Make a pair of ed25519 keys: the private one here, the public one on the leaderboard."""
    from afbench.leaderboard.board import KEYS
    from afbench.leaderboard.keys import SUFFIX, generate_key

    public = board / KEYS / f"{name}{SUFFIX}"
    short = generate_key(private, public)
    print(f"Key {short}: private in {private}, public in {public}.")


@app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle of 'afbench submit'.")],
    season: SeasonName,
    key: Key,
    status: Annotated[str, typer.Option(help="reported or external.")] = "reported",
    link: Annotated[str | None, typer.Option(help="Where external figures come from.")] = None,
    board: Board = _BOARD,
) -> None:
    """Check a bundle, compute its figures again, and put them on the leaderboard."""
    import datetime

    from afbench.leaderboard.board import RESULTS, add, reported
    from afbench.leaderboard.keys import load_signing_key
    from afbench.submission.bundle import open_bundle

    chosen, signer = _status(status), load_signing_key(key)
    today = datetime.datetime.now(datetime.UTC).date()
    with open_bundle(bundle) as opened:
        entry = reported(opened, season, signer, today, status=chosen, link=link)
    path = add(board, entry)
    print(f"{entry.status}: {entry.detector}, AUROC {entry.figures.auroc}")
    print(f"Entry: {path}. Next: afbench leaderboard validate --board {path.parents[2].parent}")
    assert path.parents[2].name == RESULTS


@app.command()
def validate(board: Board = _BOARD, as_json: AsJson = False) -> None:
    """Check every entry, key and season of a leaderboard; exit 1 where one is not sound."""
    from afbench.cli.output import print_error, print_json
    from afbench.leaderboard.board import validate as check

    report = check(board)
    counts: dict[str, int] = {}
    for entry in report.entries:
        counts[entry.status] = counts.get(entry.status, 0) + 1
    if as_json:
        print_json({"entries": counts, "records": len(report.records), "problems": report.problems})
    else:
        for line in report.problems:
            print_error(line)
        shown = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        print(
            f"{len(report.entries)} entries are sound{f' ({shown})' if shown else ''}, "
            f"{len(report.records)} records of sweeps, {len(report.problems)} problems."
        )
    if report.problems:
        raise typer.Exit(1)


@app.command()
def flag(
    entry: Annotated[Path, typer.Argument(help="The entry's file.")],
    key: Key,
    reason: Annotated[str | None, typer.Option(help="Why it is not to be relied on.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Take the flag away.")] = False,
    board: Board = _BOARD,
) -> None:
    """Flag an entry as unreliable, with the reason, and sign it anew."""
    import datetime

    from pydantic import ValidationError

    from afbench.errors import LeaderboardError
    from afbench.leaderboard.board import replace_entry
    from afbench.leaderboard.entry import Flag, flagged
    from afbench.leaderboard.keys import load_signing_key

    if lift == (reason is not None):
        raise LeaderboardError("give either a reason or --lift", where="--reason")
    signer, today = load_signing_key(key), datetime.datetime.now(datetime.UTC).date()
    try:
        mark = None if reason is None else Flag(reason=reason, since=today)
    except ValidationError as error:
        raise LeaderboardError(error.errors()[0]["msg"], where="--reason") from None
    done = replace_entry(board, entry, lambda old: flagged(old, mark, signer))
    print(f"{done.detector} in {done.season}: {'unreliable' if done.unreliable else 'not flagged'}")


@app.command()
def seal(
    season: SeasonName,
    seed_file: Annotated[
        Path, typer.Option("--seed-file", help="The season's secret seed, at least 16 bytes.")
    ],
    sealed: SealedFolder,
    organisms: Annotated[int, typer.Option(min=4, help="How many to draw and train.")] = 8,
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", "-e", help="Seal ones like this only; may be repeated."),
    ] = None,
    closes: Annotated[
        str | None, typer.Option(help="Of a new season: its last day, as YYYY-MM-DD.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Organisms trained side by side.")] = 1,
    cache: Cache = None,
    plugins: Plugins = None,
    board: Board = _BOARD,
) -> None:
    """Draw, train and check a season's sealed set, and publish the commitment to it.

    season.yaml is written where there is none. A killed seal goes on where it was.
    """
    import datetime

    from afbench.catalog.discovery import discover
    from afbench.cli.progress import TerminalProgress
    from afbench.leaderboard.draws import Secret
    from afbench.leaderboard.sealing import (
        Sealing,
        check_unsealed,
        read_seed,
        trained_here,
    )
    from afbench.leaderboard.sealing import seal as seal_season
    from afbench.leaderboard.season import new_season
    from afbench.store import Store

    today = datetime.datetime.now(datetime.UTC).date()
    secret = Secret(read_seed(seed_file), season)
    new_season(board, season, today, closes)
    rules = check_unsealed(board, season)
    store = Store(cache if cache is not None else sealed / "cache")
    with TerminalProgress() as progress:
        found = plugins or ()
        work = Sealing(
            rules,
            secret,
            sealed,
            discover(found),
            store,
            progress,
            trained_here(store, jobs, found),
            environment or (),
            found,
        )
        commitment = seal_season(board, work, organisms, today)
    print(f"Season {season}: {len(commitment.items)} items sealed in {sealed}.")
    print(f"Commitment: {commitment.root}. Publish it (git) before the season opens.")
    print("Next: afbench leaderboard score SUBMISSION --season ... --sealed ... --key ...")


@app.command()
def score(
    path: Annotated[
        Path, typer.Argument(metavar="SUBMISSION", help="A detector's folder, archive or bundle.")
    ],
    season: SeasonName,
    sealed: SealedFolder,
    key: Key,
    half: Annotated[
        str, typer.Option(help="feedback (while the season is open) or final (after it).")
    ] = "feedback",
    account: Annotated[
        str | None, typer.Option(help="Whose submissions share one Ladder (default: by detector).")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Run it again even if it was run.")] = False,
    sandbox: Sandbox = "auto",
    trust: Trust = False,
    cache: Cache = None,
    plugins: Plugins = None,
    board: Board = _BOARD,
) -> None:
    """Score a submission on a season's sealed set, and put a verified entry on the leaderboard.

    Its code runs isolated, as it must not see what is sealed.
    """
    import datetime

    from afbench.cli.progress import TerminalProgress
    from afbench.leaderboard.blind import Blind
    from afbench.leaderboard.board import add
    from afbench.leaderboard.keys import load_signing_key
    from afbench.results.run import Options
    from afbench.sandbox.choose import choose
    from afbench.store import Store
    from afbench.submission.scored import open_scored

    chosen, signer = _half(half), load_signing_key(key)
    today = datetime.datetime.now(datetime.UTC).date()
    isolation = choose(sandbox or "auto", trust=trust, secret=(sealed, key))
    store = Store(cache if cache is not None else sealed / "cache")
    options = Options(fresh=fresh, isolation=isolation)
    with open_scored(path) as (submission, bundle), TerminalProgress() as progress:
        if isolation is None:
            progress.say("nothing here isolates it: it runs unprotected, as you trust it")
        blind = Blind(board, season, sealed, store, progress, options, plugins or ())
        done = blind.entry(submission, chosen, signer, today, account=account, bundle=bundle)
        entry, where = done.entry, add(board, done.entry)
        done.ladders.save(sealed)
    print(f"verified ({half}): {entry.detector}, AUROC {entry.figures.auroc}")
    if entry.figures.auroc.note:
        print(f"Note: {entry.figures.auroc.note}.")
    print(f"Entry: {where}")


@app.command()
def reveal(
    season: SeasonName,
    sealed: SealedFolder,
    seed_file: Annotated[
        Path | None, typer.Option("--seed-file", help="Publish the seed as well.")
    ] = None,
    board: Board = _BOARD,
) -> None:
    """Publish a closed season's sealed set, after checking that it is what was committed to."""
    import datetime

    from afbench.leaderboard.sealed_set import reveal as publish
    from afbench.leaderboard.sealing import read_seed

    today = datetime.datetime.now(datetime.UTC).date()
    seed = read_seed(seed_file) if seed_file is not None else None
    folder = publish(board, sealed, season, today, seed)
    print(f"Revealed: {folder}. Anybody can check it: afbench leaderboard validate --board {board}")


server.add_to(app)
site.add_to(app)


def _status(text: str) -> Status:
    from afbench.errors import LeaderboardError, UnknownNameError

    if text == "verified":
        raise LeaderboardError(
            "'verified' is for what was scored blind",
            where="--status",
            fix="'afbench leaderboard score' makes such an entry",
        )
    if text == "reported":
        return "reported"
    if text == "external":
        return "external"
    raise UnknownNameError("status", text, ("reported", "external"))


def _half(text: str) -> Half:
    from afbench.errors import UnknownNameError

    if text == "feedback":
        return "feedback"
    if text == "final":
        return "final"
    raise UnknownNameError("half", text, ("feedback", "final"))
