"""Ask about other things, and learn how liars answer them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import LogisticDetector
from afbench.detection.probes import LogisticProbe
from afbench.detection.questioning import Questioner
from afbench.detection.state import fields


class FollowupLieDetector(LogisticDetector):
    """Logistic regression on log-odds of yes to a fixed set of questions.

    Args:
        questions: each is put on its own after the transcript.
        strength: inverse of the L2 penalty.
        samples: how many answers to sample where there are no log-probabilities.
        seed: of the samples.
    """

    fitted = fields(_questioner=Questioner, _probe=LogisticProbe)

    def __init__(
        self, questions: Sequence[str], strength: float, samples: int = 4, seed: int = 0
    ) -> None:
        super().__init__(strength)
        self._questioner = Questioner(questions, samples, seed)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._questioner.choose_scale(cases)
        super().fit(cases, labels)

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._questioner.margins(cases)

    def explain(self) -> dict[str, str | float | int]:
        return self._questioner.explain()
