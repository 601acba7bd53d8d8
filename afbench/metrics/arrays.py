"""The array types of this package and the checks that every entry point makes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Weights = NDArray[np.float32]
"""Multiplicities of cases in bootstrap replicates, [replicates, cases]."""

DEFAULT_REPLICATES = 2000


def require_same_length(**arrays: NDArray[Any] | None) -> int:
    """The common length of one-dimensional arrays; None is skipped.

    Raises:
        ValueError: an array has another length or more than one dimension.
    """
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"arrays must be one-dimensional and of one length, not {shapes}")
    return int(next(iter(shapes.values()))[0])


def require_no_nan(name: str, values: Floats) -> None:
    """Raises ValueError if `values` [n] contains NaN (infinities rank, and are let through)."""
    missing = int(np.isnan(values).sum())
    if missing:
        raise ValueError(f"{name}: {missing} of {len(values)} are NaN")


def count_distinct(*keys: Ints) -> int:
    """How many distinct tuples the integer arrays [n] form."""
    return len(np.unique(np.stack(keys, axis=1), axis=0)) if len(keys[0]) else 0
