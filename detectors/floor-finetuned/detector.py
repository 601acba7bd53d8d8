"""A shortcut: was the model fine-tuned at all, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import activations
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields
from afbench.models.interface import POOLINGS


class FinetunedFloor(Detector):
    """Logistic regression on the length of organism minus parent, per layer and pooling.

    Args:
        strength: inverse of the L2 penalty.
    """

    fitted = fields(_probe=LogisticProbe)

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._probe = LogisticProbe(self.strength).fit(_distances(cases), labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._probe.score(_distances(cases))


def _distances(cases: Sequence[Case]) -> NDArray[np.float64]:
    own = activations(cases, None, POOLINGS)
    parents = activations(cases, None, POOLINGS, parent=True)
    distances = np.log1p(np.linalg.norm(own - parents, axis=-1).astype(np.float64))
    return np.asarray(distances.reshape(len(cases), -1))
