"""Puts what is decided on the leaderboard: as often as it takes, with the same outcome."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from afbench.leaderboard.board import RESULTS
from afbench.leaderboard.release import Ladders
from afbench.server.deciding import Decided
from afbench.store import write_json


def publish(
    decided: Decided, board: Path, sealed: Path, tell: Callable[[str], None] = lambda _: None
) -> Path:
    """Write an entry, and into ladder.json what its account was released.

    The Ladder that the server goes by is in its database; the file is for `afbench leaderboard
    score` on the same sealed set. It only ever rises, so that to write it twice changes nothing.

    Args:
        board: the leaderboard's folder.
        sealed: the sealed set's.
        tell: told of each step after it is done.

    Raises:
        StorageError: a file could not be written.
        AfbenchError: ladder.json is malformed.
    """
    ladders = Ladders.load(sealed)
    known = ladders.best.get(decided.account)
    if decided.best is not None and (known is None or decided.best > known):
        ladders.after(decided.account, decided.best).save(sealed)
    tell("ladder-saved")
    path = board / RESULTS / decided.entry.file
    if not path.exists():  # it may have been flagged meanwhile
        write_json(path, decided.entry.content())
    tell("entry-written")
    return path
