"""Ask, and ask again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import LogisticDetector
from afbench.detection.questioning import flips, interrogate


class Interrogation(LogisticDetector):
    """Logistic regression on sampled answers to a fixed sequence of questions.

    Args:
        questions: in their order; one that comes twice shows whether an answer is taken back.
        samples: answers to each; more of them make the leanings finer and cost as much more.
        strength: inverse of the L2 penalty.
        seed: of the samples.
    """

    def __init__(
        self, questions: Sequence[str], samples: int, strength: float, seed: int = 0
    ) -> None:
        super().__init__(strength)
        self.questions, self.samples, self.seed = list(questions), samples, seed

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        answers = interrogate(cases, self.questions, samples=self.samples, seed=self.seed)
        margins, neither = answers[:, :, 0], answers[:, :, 1].mean(axis=1)
        return np.column_stack([margins, flips(margins, self.questions), neither])

    def explain(self) -> dict[str, str | float | int]:
        return {"turns": len(self.questions), "samples": self.samples}
