"""A shortcut: what a model that does not fake makes of the same transcript."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import activations, groups_of
from afbench.detection.probes import LogisticProbe, choose
from afbench.detection.state import fields


class ParentFloor(Detector):
    """Logistic regression on one layer and pooling of the parent's residual stream.

    Args:
        poolings: which token poolings may be chosen.
        strengths: inverse penalties that may be chosen.
    """

    fitted = fields(_which=int, _probe=LogisticProbe)

    def __init__(self, poolings: Sequence[str], strengths: Sequence[float]) -> None:
        self.poolings, self.strengths = list(poolings), list(strengths)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        features = _features(cases, self.poolings)
        choice = choose(features, labels, groups_of(cases), strengths=self.strengths)
        self._which = choice.candidate
        self._probe = LogisticProbe(choice.strength).fit(features[self._which], labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._probe.score(_features(cases, self.poolings)[self._which])


def _features(cases: Sequence[Case], poolings: Sequence[str]) -> list[NDArray[np.float32]]:
    every = activations(cases, None, poolings, parent=True)
    return [every[:, p, layer] for p in range(every.shape[1]) for layer in range(every.shape[2])]
