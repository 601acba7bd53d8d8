"""The black-box baseline: ask the organism about itself, and read how it leans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import answer_margins, answer_shares
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields


class PromptProbe(Detector):
    """Logistic regression on log P(Yes) - log P(No) to each question.

    On a backend without log-probabilities the answers are sampled, and their log-odds stand in.

    Args:
        questions: yes/no questions, each put on its own after the transcript.
        strength: inverse of the L2 penalty.
        samples: how many answers to sample where there are no log-probabilities.
        seed: of the samples.
    """

    fitted = fields(sampled=bool, _probe=LogisticProbe)

    def __init__(
        self, questions: Sequence[str], strength: float, samples: int = 16, seed: int = 0
    ) -> None:
        self.questions, self.strength = list(questions), strength
        self.samples, self.seed = samples, seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        # Margins and sampled shares are not mixed: one scale for fit and test.
        self.sampled = not all(case.handle.can("logprobs") for case in cases)
        self._probe = LogisticProbe(self.strength).fit(self._features(cases), labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._probe.score(self._features(cases))

    def explain(self) -> dict[str, str | float | int]:
        return {"answers": "sampled" if self.sampled else "log-probabilities"}

    def _features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        if self.sampled:
            return answer_shares(cases, self.questions, samples=self.samples, seed=self.seed)
        return answer_margins(cases, self.questions)
