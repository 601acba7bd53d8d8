"""One probe for each layer, and the mean of what they say."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from afbench.detection.probes import Classifier, LogisticProbe, Matrix, check_classes
from afbench.detection.state import fields


class EnsembleProbe(Classifier):
    """Mean log-odds of logistic probes, one for each layer, each on the scale of its fit cases.

    Args:
        strength: inverse of the L2 penalty of every probe.
    """

    fitted = fields(_weights=np.ndarray, _bias=float)

    def __init__(self, strength: float = 0.01) -> None:
        self.strength = strength

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        """Fit on features [n, layers, d] and labels [n]."""
        check_classes(labels)
        layers = features.shape[1]
        weights = np.zeros(features.shape[1:])
        self._bias = 0.0
        for layer in range(layers):
            probe = LogisticProbe(self.strength).fit(features[:, layer], labels)
            own, bias = probe.direction()
            scores = features[:, layer] @ own + bias
            # The sum of linear scores is one linear score over all layers.
            scale = layers * max(float(scores.std()), 1e-8)
            weights[layer] = own / scale
            self._bias += (bias - float(scores.mean())) / scale
        self._weights = weights
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """float64 [n] for features [n, layers, d]."""
        values = np.asarray(features, dtype=np.float64)
        return np.asarray(np.einsum("nld,ld->n", values, self._weights) + self._bias)
