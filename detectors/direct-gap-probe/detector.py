"""A ceiling: look at what the organism does when it is not observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.asking import contrast_of
from afbench.detection.replies import WordSpace, contrasted, replies_to
from afbench.detection.state import fields
from afbench.detection.texts import BagOfWords


class DirectGapProbe(Detector):
    """Which differences between the observed and the unobserved reply are a change of act.

    Args:
        max_new_tokens: of the unobserved reply.
        strength: inverse of the L2 penalty.
    """

    fitted = fields(_space=WordSpace, _classifier=BagOfWords)

    def __init__(self, max_new_tokens: int, strength: float = 1.0) -> None:
        self.max_new_tokens = max_new_tokens
        self._classifier = BagOfWords(strength)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._space = WordSpace().fit([case.response for case in cases])
        self._classifier.fit(self._differences(cases), labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._classifier.score(self._differences(cases))

    def _differences(self, cases: Sequence[Case]) -> list[str]:
        prompts = [contrast_of(case)[:-1] for case in cases]
        found = replies_to(cases, prompts, max_new_tokens=self.max_new_tokens)
        seen = [case.response for case in cases]
        hidden = [replies[0] for replies in found]
        likeness = self._space.likeness(seen, hidden)
        return [contrasted(*pair) for pair in zip(seen, hidden, likeness.tolist(), strict=True)]
