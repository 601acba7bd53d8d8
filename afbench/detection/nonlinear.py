"""Classifiers that are not linear: a small network, and a quadratic form."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from afbench.detection.linear import components, location_and_scale
from afbench.detection.probes import Classifier, LogisticProbe, Matrix, check_classes
from afbench.detection.state import fields


class MlpProbe(Classifier):
    """A network with one hidden layer on standardised features, trained on all cases at once.

    Args:
        strength: weight decay (of AdamW).
        hidden: units of the hidden layer.
        steps: of the optimiser.
        rate: its first learning rate.
        seed: of the initial weights.
    """

    fitted = fields(
        _mean=np.ndarray,
        _scale=np.ndarray,
        _inner=np.ndarray,
        _inner_bias=np.ndarray,
        _outer=np.ndarray,
        _bias=float,
    )

    def __init__(
        self,
        strength: float = 1.0,
        hidden: int = 32,
        steps: int = 150,
        rate: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.strength, self.hidden = strength, hidden
        self.steps, self.rate, self.seed = steps, rate, seed

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        import torch

        from afbench.detection.training import balanced_weights, descend, logistic_loss, repeatable

        check_classes(labels)
        self._mean, self._scale = location_and_scale(features)
        width = features.shape[1]
        with repeatable(self.seed) as draw:
            given = torch.from_numpy(self._standard(features).astype(np.float32))
            target = torch.from_numpy(labels.astype(np.float32))
            weights = balanced_weights(labels)
            inner = torch.randn(width, self.hidden, generator=draw) * (2 / width) ** 0.5
            outer = torch.randn(self.hidden, generator=draw) * self.hidden**-0.5
            inner_bias, bias = torch.zeros(self.hidden), torch.zeros(1)

            def loss() -> torch.Tensor:
                hidden = torch.relu(given @ inner + inner_bias)
                return logistic_loss(hidden @ outer + bias, target, weights)

            parameters = (inner, inner_bias, outer, bias)
            descend(parameters, loss, steps=self.steps, rate=self.rate, decay=self.strength)
        self._inner, self._inner_bias, self._outer = (
            part.numpy().astype(np.float64) for part in (inner, inner_bias, outer)
        )
        self._bias = float(bias)
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """Log-odds of faking [n] for features [n, d]."""
        hidden = np.maximum(self._standard(features) @ self._inner + self._inner_bias, 0.0)
        return np.asarray(hidden @ self._outer + self._bias)

    def _standard(self, features: Matrix) -> NDArray[np.float64]:
        return (np.asarray(features, dtype=np.float64) - self._mean) / self._scale


class QuadraticProbe(Classifier):
    """Logistic regression on x and all products of its entries: x'Mx + w'x + b.

    x are the leading principal components of the standardised features, whitened: M has the rank of
    their number, which keeps its size to what a few hundred cases can fill.

    Args:
        strength: inverse of the L2 penalty.
        rank: how many components.
    """

    fitted = fields(_mean=np.ndarray, _scale=np.ndarray, _basis=np.ndarray, _probe=LogisticProbe)

    def __init__(self, strength: float = 0.01, rank: int = 16) -> None:
        self.strength, self.rank = strength, rank

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        check_classes(labels)
        self._mean, self._scale = location_and_scale(features)
        standard = (np.asarray(features, dtype=np.float64) - self._mean) / self._scale
        basis = components(standard, min(self.rank, features.shape[1]))
        deviation = (standard @ basis.T).std(axis=0)
        self._basis = basis / np.where(deviation > 1e-8, deviation, 1.0)[:, None]
        self._probe = LogisticProbe(self.strength).fit(self._products(features), labels)
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """Log-odds of faking [n] for features [n, d]."""
        return self._probe.score(self._products(features))

    def _products(self, features: Matrix) -> NDArray[np.float64]:
        standard = (np.asarray(features, dtype=np.float64) - self._mean) / self._scale
        inside = standard @ self._basis.T
        first, second = np.triu_indices(inside.shape[1])
        return np.hstack([inside, inside[:, first] * inside[:, second]])
