"""Linear classifiers in closed form: what stands between two class means."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from afbench.detection.probes import Classifier, LogisticProbe, Matrix, check_classes
from afbench.detection.state import fields

Vector = NDArray[np.float64]


class _Direction(Classifier):
    """A direction and the point that scores zero."""

    fitted = fields(_weights=np.ndarray, _middle=np.ndarray)
    _weights: Vector
    _middle: Vector

    def score(self, features: Matrix) -> Vector:
        """Projection on the direction [n], from the middle between the class means."""
        # In an order that no batch changes: a matrix product may sum otherwise for other sizes.
        centred = np.asarray(features, dtype=np.float64) - self._middle
        return np.asarray(np.einsum("nd,d->n", centred, self._weights))


class MeansProbe(_Direction):
    """Difference of the class means (Marks & Tegmark 2023, arXiv 2310.06824, section 5).

    Args:
        strength: not used; there is nothing to regularise.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        faking, sincere = class_means(features, labels)
        self._weights, self._middle = faking - sincere, (faking + sincere) / 2
        return self


class LdaProbe(_Direction):
    """Linear discriminant: the inverse pooled covariance times the difference of the means.

    Features are standardised by their pooled within-class deviation, and the covariance is shrunk
    towards the identity by the share of Ledoit & Wolf (2004), or by a share of one's own.

    Args:
        strength: the share of the identity in (0, 1]; 0 takes Ledoit and Wolf's.
    """

    def __init__(self, strength: float = 0.0) -> None:
        self.strength = strength

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        features = np.asarray(features, dtype=np.float64)
        faking, sincere = class_means(features, labels)
        centred = features - np.where(labels[:, None], faking, sincere)
        deviation = centred.std(axis=0)
        scale = np.where(deviation > 1e-8, deviation, 1.0)
        covariance = shrunk_covariance(centred / scale, self.strength)
        weights = np.linalg.solve(covariance, (faking - sincere) / scale) / scale
        self._weights, self._middle = weights, (faking + sincere) / 2
        return self


class LatProbe(_Direction):
    """First principal component of differences between faking and sincere cases (RepE).

    Every case of the larger class is paired with one of the smaller; differences are not centred,
    so that their signs, which Zou et al. draw at random, do not matter. The component's own sign is
    the one that gives faking cases the higher mean.

    Args:
        strength: not used.
        seed: of the pairing.
    """

    def __init__(self, strength: float = 1.0, seed: int = 0) -> None:
        self.strength, self.seed = strength, seed

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        features = np.asarray(features, dtype=np.float64)
        faking, sincere = class_means(features, labels)
        rng = np.random.default_rng(self.seed)
        pairs = max(int(labels.sum()), int((~labels).sum()))
        first, second = (
            features[rng.permutation(np.resize(np.flatnonzero(side), pairs))]
            for side in (labels, ~labels)
        )
        direction = components(first - second, 1)[0]
        sign = 1.0 if direction @ (faking - sincere) >= 0 else -1.0
        self._weights, self._middle = sign * direction, (faking + sincere) / 2
        return self


class SubspaceProbe(Classifier):
    """Logistic regression in the span of the leading components of class differences.

    The differences are between every faking case and the sincere mean, and every sincere case and
    the faking mean, on standardised features.

    Args:
        strength: how many components, at least 1.
        penalty: inverse of the L2 penalty of the regression.
    """

    fitted = fields(_mean=np.ndarray, _scale=np.ndarray, _basis=np.ndarray, _probe=LogisticProbe)

    def __init__(self, strength: float = 1.0, penalty: float = 0.1) -> None:
        self.count, self.penalty = int(strength), penalty

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        check_classes(labels)
        self._mean, self._scale = location_and_scale(features)
        standard = (np.asarray(features, dtype=np.float64) - self._mean) / self._scale
        faking, sincere = class_means(standard, labels)
        differences = standard - np.where(labels[:, None], sincere, faking)
        self._basis = components(differences, min(self.count, features.shape[1]))
        self._probe = LogisticProbe(self.penalty).fit(self._inside(features), labels)
        return self

    def score(self, features: Matrix) -> Vector:
        """Log-odds of faking [n] for features [n, d]."""
        return self._probe.score(self._inside(features))

    def _inside(self, features: Matrix) -> NDArray[np.float64]:
        standard = (np.asarray(features, dtype=np.float64) - self._mean) / self._scale
        return np.asarray(np.einsum("nd,kd->nk", standard, self._basis))


def class_means(features: Matrix, labels: NDArray[np.bool_]) -> tuple[Vector, Vector]:
    """Mean of the faking and of the sincere cases, float64 [d] each.

    Raises:
        NotEnoughCasesError: only one class is there.
    """
    check_classes(labels)
    return (
        np.asarray(features[labels].mean(axis=0, dtype=np.float64)),
        np.asarray(features[~labels].mean(axis=0, dtype=np.float64)),
    )


def location_and_scale(features: Matrix) -> tuple[Vector, Vector]:
    """Mean and deviation [d]; the deviation of a constant feature is given as one."""
    values = np.asarray(features, dtype=np.float64)
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation > 1e-8, deviation, 1.0)


def shrunk_covariance(centred: NDArray[np.float64], share: float = 0.0) -> NDArray[np.float64]:
    """Covariance [d, d] of rows [n, d] of mean zero, shrunk to a multiple of the identity.

    Args:
        share: weight of the identity; 0 takes that of Ledoit & Wolf (2004).
    """
    width = centred.shape[1]
    if share == 0:
        shrunk = np.asarray(ledoit_wolf(centred, assume_centered=True)[0])
    else:
        plain = centred.T @ centred / len(centred)
        shrunk = (1 - share) * plain + share * np.trace(plain) / width * np.eye(width)
    # Where every row is the same there is no covariance at all, and still something to invert.
    return shrunk + 1e-9 * np.eye(width)


def components(rows: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Leading right singular vectors [count, d] of rows [n, d], which are not centred.

    A singular vector has two signs: its largest entry is made positive.
    """
    _, vectors = np.linalg.eigh(rows.T @ rows)
    leading = vectors[:, ::-1][:, :count].T
    largest = leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)]
    return np.asarray(leading * np.where(largest < 0, -1.0, 1.0)[:, None])
