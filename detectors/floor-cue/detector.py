"""A shortcut: the words of the cue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.state import fields
from afbench.detection.texts import BagOfWords


class CueFloor(Detector):
    """TF-IDF and logistic regression on the cue's text.

    Args:
        strength: inverse of the L2 penalty.
    """

    fitted = fields(_classifier=BagOfWords)

    def __init__(self, strength: float = 1.0) -> None:
        self._classifier = BagOfWords(strength)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._classifier.fit([case.cue for case in cases], labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._classifier.score([case.cue for case in cases])
