"""What the YAML of a manifest was when it was last read, so that hundreds need no new parsing.

Only the parsing is spared: every manifest is validated and its files are looked for each time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from afbench import __version__
from afbench.errors import StorageError
from afbench.store import default_cache, write_bytes

_FILE = "manifests.json"
# A file changed so shortly before it was read may change again within one tick of its clock.
_SETTLED_NS = 2_000_000_000


class ParsedManifests:
    """Data of YAML files by path, as long as size and time of change are the same.

    Args:
        path: the file that holds them; one that is missing or damaged counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        self._entries: dict[str, Any] = {}
        try:
            held = json.loads(path.read_bytes())
            if held["version"] == __version__:
                self._entries = dict(held["entries"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    @classmethod
    def of_user(cls) -> ParsedManifests:
        """Those in the user's cache."""
        return cls(default_cache() / _FILE)

    def get(self, file: Path) -> Any | None:
        """The data of a file that has not changed since, or None."""
        entry = self._entries.get(str(file.absolute()))
        stamp = _stamp(file)
        return entry["data"] if entry and stamp and entry["stamp"] == stamp else None

    def put(self, file: Path, data: Any) -> None:
        """Remember what a file holds, unless JSON would change it or the file is too new."""
        stamp = _stamp(file)
        if stamp is None or time.time_ns() - stamp[1] < _SETTLED_NS:
            return
        try:
            if json.loads(json.dumps(data)) != data:
                return
        except (TypeError, ValueError):
            return
        self._entries[str(file.absolute())] = {"stamp": stamp, "data": data}
        self._changed = True

    def save(self) -> None:
        """Write what is new; a cache that cannot be written is only slower."""
        if not self._changed:
            return
        held = {"version": __version__, "entries": self._entries}
        try:
            write_bytes(self._path, json.dumps(held, separators=(",", ":")).encode())
        except StorageError:
            return
        self._changed = False


def _stamp(file: Path) -> list[int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino]
