"""The entries of a season as they stand on the leaderboard, which may be flagged by hand."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afbench.errors import AfbenchError
from afbench.leaderboard.board import KEYS, RESULTS
from afbench.leaderboard.entry import read_entry, verify
from afbench.leaderboard.keys import load_public_keys
from afbench.server.logs import log


@dataclass(slots=True)
class Results:
    """Reads entries, and keeps what it read until a file changes.

    Args:
        board: the leaderboard's folder.
        season: whose entries.
    """

    board: Path
    season: str
    _read: dict[Path, tuple[tuple[int, int], dict[str, Any] | None]] = field(default_factory=dict)

    def entries(self) -> list[dict[str, Any]]:
        """Every entry with a sound signature, by detector and digest.

        Raises:
            LeaderboardError: a file in keys/ is no key.
        """
        seen: dict[Path, tuple[tuple[int, int], dict[str, Any] | None]] = {}
        keys: Any = None
        for path in sorted((self.board / RESULTS / self.season).glob("*/*.json")):
            try:
                found = path.stat()
            except OSError:
                continue
            stamp = (found.st_mtime_ns, found.st_size)
            known = self._read.get(path)
            if known is None or known[0] != stamp:
                keys = load_public_keys(self.board / KEYS) if keys is None else keys
                known = (stamp, _entry(path, keys))
            seen[path] = known
        self._read = seen
        return [content for _, content in seen.values() if content is not None]


def _entry(path: Path, keys: Any) -> dict[str, Any] | None:
    try:
        entry = read_entry(path)
        verify(entry, keys)
    except AfbenchError as error:
        log("unsound-entry", level=logging.WARNING, file=path.name, reason=str(error))
        return None
    return entry.content()
