"""The content-addressed cache, and writes that are whole or not there at all.

An entry's name is the digest of everything that its content depends on, so an entry is never
stale and never changed: it is written once, to a temporary file that is then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHE_VARIABLE = "AFBENCH_CACHE"

# It can only be read by setting it; done once, before any thread is there to see the gap.
UMASK = os.umask(0o022)
os.umask(UMASK)


def digest_of(value: Any) -> str:
    """The sha256 of a JSON-able value in canonical form, as `sha256:<64 hex digits>`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Raises:
        StorageError: it could not be written (a full disk, no permission).
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp makes it private
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            fix="free some space or name another folder; what was finished before is kept",
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        StorageError: it could not be written.
    """
    text = json.dumps(value, indent=1, sort_keys=False, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def default_cache() -> Path:
    """`$AFBENCH_CACHE`, or the user's cache folder of this platform."""
    from platformdirs import user_cache_path

    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser() if given else user_cache_path("afbench")


class Store:
    """Entries by kind and digest, under one folder.

    Arrays that were read or written lately are kept in memory too: a run asks for the same ones in
    every fit.

    Args:
        root: the folder; made when the first entry is written.
        memory: the most bytes of arrays kept in memory.
    """

    def __init__(self, root: Path, memory: int = 1 << 30) -> None:
        self.root = root
        self.hits = 0
        self.misses = 0
        self._memory = memory
        self._held: OrderedDict[Path, dict[str, NDArray[Any]]] = OrderedDict()

    def path(self, kind: str, key: str, suffix: str) -> Path:
        """Where an entry lies: kind/ab/abcdef....suffix."""
        name = key.removeprefix("sha256:")
        return self.root / kind / name[:2] / f"{name}{suffix}"

    def read_json(self, kind: str, key: str) -> Any | None:
        """A JSON entry, or None where there is none or a damaged one."""
        try:
            content = self.path(kind, key, ".json").read_bytes()
        except OSError:
            content = b""
        head, text, tail = content[:_HEAD], content[_HEAD : -len(_TAIL)], content[-len(_TAIL) :]
        if tail != _TAIL or head != _head(text):
            self.misses += 1
            return None
        self.hits += 1
        return json.loads(text)

    def write_json(self, kind: str, key: str, value: Any) -> None:
        """Keep a JSON entry, with a checksum by which damage is seen."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode()
        write_bytes(self.path(kind, key, ".json"), _head(text) + text + _TAIL)

    def read_arrays(
        self, kind: str, key: str, *, hold: bool = True
    ) -> dict[str, NDArray[Any]] | None:
        """An entry of named arrays, or None where there is none or a damaged one.

        Args:
            hold: keep it in memory; not for entries that are many, large and read once.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.path(kind, key, ".safetensors")
        if path in self._held:
            self._held.move_to_end(path)
            self.hits += 1
            return self._held[path]
        try:
            arrays = load(path.read_bytes())
            whole = arrays.pop(_CHECKSUM).tobytes() == _checksum(arrays)
        except (OSError, SafetensorError, ValueError, KeyError):
            whole = False
        if not whole:
            self.misses += 1
            return None
        self.hits += 1
        return self._hold(path, arrays) if hold else arrays

    def write_arrays(
        self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]], *, hold: bool = True
    ) -> None:
        """Keep an entry of named arrays, with a checksum by which damage is seen.

        Args:
            hold: as for `read_arrays`.
        """
        import numpy as np
        from safetensors.numpy import save

        # Copies: they are held and made read-only, and the writer's own are none of that.
        whole = {name: np.array(array, order="C") for name, array in arrays.items()}
        checksum = np.frombuffer(_checksum(whole), dtype=np.uint8)
        path = self.path(kind, key, ".safetensors")
        write_bytes(path, save({**whole, _CHECKSUM: checksum}))
        if hold:
            self._hold(path, whole)

    def _hold(self, path: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for array in arrays.values():
            array.flags.writeable = False  # every reader gets the same one
        self._held[path] = arrays
        held = sum(array.nbytes for entry in self._held.values() for array in entry.values())
        while held > self._memory and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            held -= sum(array.nbytes for array in oldest.values())
        return arrays


_CHECKSUM = "sha256"
_TAIL = b"}\n"


def _head(text: bytes) -> bytes:
    """What stands before an entry's JSON text, so that the whole is JSON as well."""
    return f'{{"sha256": "{hashlib.sha256(text).hexdigest()}", "entry": '.encode()


_HEAD = len(_head(b""))


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.digest()
