"""Keeps what was computed lately, so that figures over the same cases share it.

A run asks for hundreds of figures of one set of cases: their bootstrap weights are the same for
every detector, and a detector's resampled AUROC is needed beside each of its rivals'.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Memo(Generic[T]):
    """Results by key, the least recently used ones forgotten beyond a size.

    What is kept is shared: nobody may write into it.

    Args:
        max_bytes: of all results together; a larger one is not kept.
        size: bytes of a result.
    """

    def __init__(self, max_bytes: int, size: Callable[[T], int]) -> None:
        self.max_bytes, self._size = max_bytes, size
        self._kept: OrderedDict[bytes, T] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def find(self, key: bytes) -> T | None:
        """What is kept under a key."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: bytes, result: T) -> T:
        """Keep a result, and return it."""
        with self._lock:
            if key not in self._kept and self._size(result) <= self.max_bytes:
                self._kept[key] = result
                self._bytes += self._size(result)
                while self._bytes > self.max_bytes:
                    _, forgotten = self._kept.popitem(last=False)
                    self._bytes -= self._size(forgotten)
        return result


def key_of(*parts: NDArray[Any] | bytes | int | float | str | None) -> bytes:
    """A digest of arrays (contents, type and shape) and plain values, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.digest()
