"""A shortcut: the length of the observed reply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields


class LengthFloor(Detector):
    """Logistic regression on the number of characters and words of the reply."""

    fitted = fields(_probe=LogisticProbe)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._probe = LogisticProbe().fit(_lengths(cases), labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._probe.score(_lengths(cases))


def _lengths(cases: Sequence[Case]) -> NDArray[np.float64]:
    return np.array(
        [[len(case.response), len(case.response.split())] for case in cases], dtype=np.float64
    )
