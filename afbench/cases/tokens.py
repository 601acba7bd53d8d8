"""Activations of every token, kept on disk one conversation at a time and read when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from afbench.models.interface import TokenActivations

# Below this many numbers a token, every layer is kept: one forward pass then serves every detector.
SHARED_FLOATS_PER_TOKEN = 4096
# Half precision ends at 65,504; some models have single residuals beyond it.
_LARGEST = 60_000.0


class TokenSequence(Sequence[TokenActivations]):
    """As many transcripts as were asked about; each is read from disk at every access.

    Args:
        read: gives the transcript of an index.
        count: how many there are.
    """

    __slots__ = ("_count", "_read")

    def __init__(self, read: Callable[[int], TokenActivations], count: int) -> None:
        self._read, self._count = read, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TokenActivations: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenActivations]: ...

    def __getitem__(self, index: int | slice) -> TokenActivations | Sequence[TokenActivations]:
        if isinstance(index, slice):
            chosen = range(self._count)[index]
            return TokenSequence(lambda at: self._read(chosen[at]), len(chosen))
        return self._read(range(self._count)[index])  # a range knows its ends, and -1

    def __iter__(self) -> Iterator[TokenActivations]:
        return (self._read(index) for index in range(self._count))


def packed(found: TokenActivations, forward_tokens: int) -> dict[str, NDArray[Any]]:
    """One transcript as arrays for the cache: values in half precision, scaled by layer.

    Rounding is at most 1 part in 2,048 of each number, or of the layer's largest in 2**25.
    """
    largest = np.abs(found.values).max(axis=(0, 2), initial=0.0)
    scale = np.maximum(largest / _LARGEST, 1.0).astype(np.float32)
    tokens = json.dumps(found.tokens).encode()
    return {
        "values": (found.values / scale[None, :, None]).astype(np.float16),
        "scale": scale,
        "reply_start": np.array([found.reply_start], dtype=np.int64),
        "tokens": np.frombuffer(tokens, dtype=np.uint8),
        "forward_tokens": np.array([forward_tokens], dtype=np.int64),
    }


def unpacked(arrays: dict[str, NDArray[Any]], columns: Sequence[int]) -> TokenActivations:
    """The inverse of `packed`, for some of its layers."""
    chosen = list(columns)
    scale = arrays["scale"][chosen]
    values = arrays["values"][:, chosen].astype(np.float32) * scale[None, :, None]
    return TokenActivations(
        values=values,
        reply_start=int(arrays["reply_start"][0]),
        tokens=tuple(json.loads(arrays["tokens"].tobytes())),
    )
