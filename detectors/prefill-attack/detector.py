"""Put other words into its mouth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import LogisticDetector
from afbench.detection.prefill import other_starts, readiness, start_logprobs, usual_starts
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields


class PrefillAttack(LogisticDetector):
    """Logistic regression on the likelihood of beginnings that the reply does not have.

    Args:
        words: of a beginning.
        most: how many beginnings are taken from replies of the fit side.
        generic: further ones.
        strength: inverse of the L2 penalty.
    """

    fitted = fields(starts=list, _probe=LogisticProbe)
    names = ("all other beginnings", "the likeliest other beginning")

    def __init__(
        self, words: int, most: int, generic: Sequence[str], strength: float = 1.0
    ) -> None:
        super().__init__(strength)
        self.words, self.most, self.generic = words, most, list(generic)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        usual = usual_starts(cases, words=self.words, most=self.most)
        self.starts = list(dict.fromkeys([*usual, *self.generic]))
        super().fit(cases, labels)

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        logprobs = start_logprobs(cases, self.starts)
        return readiness(logprobs, other_starts(cases, self.starts, self.words))
