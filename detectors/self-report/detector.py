"""Ask the organism outright."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import FixedDetector
from afbench.detection.questioning import Questioner
from afbench.detection.state import fields


class SelfReport(FixedDetector):
    """Log-odds of yes to one question about itself.

    Args:
        question: a yes means faking.
        samples: how many answers to sample where there are no log-probabilities.
        seed: of the samples.
    """

    fitted = fields(_questioner=Questioner)

    def __init__(self, question: str, samples: int = 8, seed: int = 0) -> None:
        self._questioner = Questioner([question], samples, seed)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._questioner.choose_scale(cases)

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._questioner.margins(cases)[:, 0]

    def explain(self) -> dict[str, str | float | int]:
        return {**super().explain(), **self._questioner.explain()}
