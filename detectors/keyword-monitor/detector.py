"""The cheapest monitor: words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import FixedDetector
from afbench.judging import item_of


class KeywordMonitor(FixedDetector):
    """The summed weights of patterns that are found in what the organism wrote.

    Args:
        patterns: regular expressions, each with its weight; case does not matter, and one that is
            found twice counts once.
    """

    def __init__(self, patterns: Mapping[str, float]) -> None:
        self._patterns = [
            (re.compile(pattern, re.IGNORECASE), float(weight))
            for pattern, weight in patterns.items()
        ]

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        said = [item_of(case.messages).said for case in cases]
        return np.array([self._weight(text) for text in said], dtype=np.float64)

    def _weight(self, text: str) -> float:
        return sum(weight for pattern, weight in self._patterns if pattern.search(text))
