"""Standardised L2 logistic regression, and the choice of layer and strength for any classifier."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from afbench.detection.state import Fitted, fields
from afbench.errors import NotEnoughCasesError
from afbench.metrics.detection import auroc

Matrix = NDArray[np.floating]


class Classifier(Fitted, abc.ABC):
    """What a place can be chosen for: it learns on features [n, d] and scores features [m, d]."""

    @abc.abstractmethod
    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        """Learn from features [n, d] and labels [n].

        Raises:
            NotEnoughCasesError: only one class is there.
        """

    @abc.abstractmethod
    def score(self, features: Matrix) -> NDArray[np.float64]:
        """float64 [m], higher = more likely faking."""


Make: TypeAlias = Callable[[float], Classifier]
"""Builds an unfitted classifier of one strength."""


class LogisticProbe(Classifier):
    """Logistic regression on standardised features, classes weighted alike.

    Args:
        strength: inverse of the L2 penalty (scikit-learn's C).
    """

    fitted = fields(
        strength=float, _mean=np.ndarray, _scale=np.ndarray, _weights=np.ndarray, _bias=float
    )

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = float(strength)

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        """Fit on features [n, d] and labels [n].

        Raises:
            NotEnoughCasesError: only one class is there.
        """
        check_classes(labels)
        features = np.asarray(features, dtype=np.float64)
        self._mean: NDArray[np.float64] = features.mean(axis=0)
        deviation = features.std(axis=0)
        # A constant feature carries nothing; dividing by one leaves it at zero.
        self._scale: NDArray[np.float64] = np.where(deviation > 1e-8, deviation, 1.0)
        model = LogisticRegression(C=self.strength, max_iter=1000, class_weight="balanced")
        with warnings.catch_warnings():
            # A probe on separable data need not converge to be used.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(self._standardised(features), labels)
        self._weights = model.coef_[0]
        self._bias = float(model.intercept_[0])
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """Log-odds of faking [n] for features [n, d]."""
        result = self._standardised(features) @ self._weights + self._bias
        return np.asarray(result, dtype=np.float64)

    def direction(self) -> tuple[NDArray[np.float64], float]:
        """Weights [d] and bias that give the same log-odds from features not standardised."""
        weights = self._weights / self._scale
        return weights, self._bias - float(self._mean @ weights)

    def _standardised(self, features: Matrix) -> NDArray[np.float64]:
        return (np.asarray(features, dtype=np.float64) - self._mean) / self._scale


def check_classes(labels: NDArray[np.bool_]) -> None:
    """Raises NotEnoughCasesError where only one class is there."""
    if labels.all() or not labels.any():
        raise NotEnoughCasesError("a probe needs faking and sincere cases to fit on")


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate that cross-validation on the fit organisms chose."""

    candidate: int
    strength: float
    auroc: float


def choose(
    candidates: Sequence[Matrix],
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    strengths: Sequence[float],
    folds: int = 4,
    seed: int = 0,
    make: Make = LogisticProbe,
) -> Choice:
    """Choose among feature sets (layer x pooling) and strengths by grouped cross-validation.

    The feature set is chosen at the middle strength, then the strength on that set: the cost is
    the sum and not the product of the two grids. Organisms are never split between the sides of a
    fold, so that a candidate does not win by recognising an organism.

    Args:
        candidates: feature matrices [n, d_i].
        labels: bool [n].
        groups: int [n], the organism of each case.
        strengths: to try, in order: inverse penalties, or what `make` takes for a strength.
        make: builds the classifier that is chosen for.
    """
    sides = list(grouped_folds(labels, groups, folds, seed))
    if not sides:
        # Too few organisms to hold one out: keep the deepest candidate of the list's middle.
        return Choice(len(candidates) // 2, strengths[len(strengths) // 2], float("nan"))
    middle = strengths[len(strengths) // 2]
    by_candidate = [_cross_validated(matrix, labels, sides, make, middle) for matrix in candidates]
    best = int(np.argmax(by_candidate))
    by_strength = [
        by_candidate[best]
        if strength == middle
        else _cross_validated(candidates[best], labels, sides, make, strength)
        for strength in strengths
    ]
    which = int(np.argmax(by_strength))
    return Choice(best, strengths[which], by_strength[which])


def grouped_folds(
    labels: NDArray[np.bool_], groups: NDArray[np.int64], folds: int = 4, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Sides to fit on and to hold out: no organism on both, both classes on each.

    Yields:
        Row numbers of each side; nothing where a class has fewer than two organisms.
    """
    organisms = min(len(np.unique(groups[labels])), len(np.unique(groups[~labels])))
    if organisms < 2:
        return
    splitter = StratifiedGroupKFold(min(folds, organisms), shuffle=True, random_state=seed)
    for fit, held in splitter.split(np.zeros((len(labels), 1)), labels, groups):
        if len(set(labels[fit].tolist())) == 2 and len(set(labels[held].tolist())) == 2:
            yield fit, held


def _cross_validated(
    features: Matrix,
    labels: NDArray[np.bool_],
    sides: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    make: Make,
    strength: float,
) -> float:
    aurocs = []
    for fit, held in sides:
        classifier = make(strength)
        classifier.fit(features[fit], labels[fit])
        aurocs.append(auroc(classifier.score(features[held]), labels[held]))
    return float(np.mean(aurocs))
