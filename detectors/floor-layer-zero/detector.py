"""A shortcut: token embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import activations, groups_of
from afbench.detection.probes import LogisticProbe, choose
from afbench.detection.state import fields
from afbench.models.interface import POOLINGS


class LayerZeroFloor(Detector):
    """Logistic regression on layer 0, every pooling side by side.

    Args:
        strengths: inverse penalties that may be chosen.
    """

    fitted = fields(_probe=LogisticProbe)

    def __init__(self, strengths: Sequence[float]) -> None:
        self.strengths = list(strengths)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        features = _embeddings(cases)
        choice = choose([features], labels, groups_of(cases), strengths=self.strengths)
        self._probe = LogisticProbe(choice.strength).fit(features, labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._probe.score(_embeddings(cases))


def _embeddings(cases: Sequence[Case]) -> NDArray[np.float32]:
    return activations(cases, [0], POOLINGS).reshape(len(cases), -1)
