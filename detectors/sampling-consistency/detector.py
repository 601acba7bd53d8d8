"""Ask again, and see whether the reply was a matter of chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import LogisticDetector
from afbench.detection.probes import LogisticProbe
from afbench.detection.replies import WordSpace, replies_to, spread, start_entropy
from afbench.detection.state import fields


class SamplingConsistency(LogisticDetector):
    """Logistic regression on disagreement among samples at temperature 1 and with the reply.

    Args:
        samples: of each observed prompt.
        max_new_tokens: of each.
        strength: inverse of the L2 penalty.
        seed: of the samples.
    """

    fitted = fields(_space=WordSpace, _probe=LogisticProbe)
    names = ("disagreement", "distance from the reply", "entropy of the start")

    def __init__(
        self, samples: int, max_new_tokens: int, strength: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__(strength)
        self.samples, self.max_new_tokens, self.seed = samples, max_new_tokens, seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._space = WordSpace().fit([case.response for case in cases])
        super().fit(cases, labels)

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        sampled = replies_to(
            cases,
            [case.prompt for case in cases],
            max_new_tokens=self.max_new_tokens,
            temperature=1.0,
            samples=self.samples,
            seed=self.seed,
        )
        shown = [case.response for case in cases]
        away = [1 - self._space.likeness(shown, column) for column in zip(*sampled, strict=True)]
        return np.column_stack(
            [spread(self._space, sampled), np.mean(away, axis=0), start_entropy(sampled)]
        )
