"""A monitor that learns spellings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.state import fields
from afbench.detection.texts import BagOfCharacters
from afbench.judging import item_of


class TfidfMonitor(Detector):
    """TF-IDF on characters and logistic regression, on everything that the organism wrote.

    Args:
        strength: inverse of the L2 penalty.
    """

    fitted = fields(_classifier=BagOfCharacters)

    def __init__(self, strength: float = 1.0) -> None:
        self._classifier = BagOfCharacters(strength)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._classifier.fit(_said(cases), labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._classifier.score(_said(cases))


def _said(cases: Sequence[Case]) -> list[str]:
    return [item_of(case.messages).said for case in cases]
