"""From scores to probabilities and thresholds, both chosen on fit organisms only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from afbench.errors import NotEnoughCasesError
from afbench.metrics.arrays import Bools, Floats, require_no_nan, require_same_length

_NEWTON_STEPS = 100
_CONVERGED = 1e-10


@dataclass(frozen=True, slots=True)
class PlattScaling:
    """P(faking) = 1 / (1 + exp(-(slope * score + intercept))), with slope >= 0."""

    slope: float
    intercept: float

    def probabilities(self, scores: Floats) -> Floats:
        """Probabilities of faking, float array [n], rising with the scores [n]."""
        return _sigmoid(self.slope * scores + self.intercept)


def fit_platt(scores: Floats, labels: Bools) -> PlattScaling:
    """Fit Platt scaling on out-of-fold scores of the fit cases.

    Maximum likelihood by Newton's method with Platt's smoothed targets (P+1)/(P+2) and 1/(N+2)
    (Platt 1999, "Probabilistic outputs for support vector machines"; the steps follow Lin, Lin &
    Weng 2007). A detector's contract is that higher means more likely faking: a fit that wants a
    negative slope gets slope 0 and the base rate, never a reversed score.

    Args:
        scores: finite float array [n], each from a fit that did not see its case.
        labels: bool array [n], True = faking.

    Raises:
        NotEnoughCasesError: a class is absent.
        ValueError: a score is not finite, or lengths differ.
    """
    n = require_same_length(scores=scores, labels=labels)
    if not bool(np.isfinite(scores).all()):
        raise ValueError("scores must be finite to be calibrated")
    positives = int(labels.sum())
    if positives == 0 or positives == n:
        raise NotEnoughCasesError(
            f"calibration needs both classes; there are {positives} faking and "
            f"{n - positives} sincere cases"
        )
    target_high, target_low = (positives + 1) / (positives + 2), 1 / (n - positives + 2)
    targets = np.where(labels, target_high, target_low)
    base_rate = PlattScaling(0.0, _logit(float(targets.mean())))
    # Standardised scores make the Newton steps independent of the detector's scale.
    centre, scale = float(scores.mean()), float(scores.std())
    if scale <= 1e-12 * max(1.0, abs(centre)):
        return base_rate
    slope, intercept = _newton((scores - centre) / scale, targets, base_rate.intercept)
    if slope <= 0:
        return base_rate
    return PlattScaling(slope / scale, intercept - slope * centre / scale)


def threshold_at_fpr(scores_of_negatives: Floats, fpr: float) -> float:
    """The smallest threshold t with share(scores > t) <= fpr; minus infinity if fpr >= 1.

    Args:
        scores_of_negatives: float array [n], sincere fit cases. fpr: 0..1.

    Raises:
        NotEnoughCasesError: there are none.
    """
    n = len(scores_of_negatives)
    if n == 0:
        raise NotEnoughCasesError("a threshold needs scores of sincere cases; there are none")
    require_no_nan("scores of sincere cases", scores_of_negatives)
    allowed = math.floor(fpr * n + 1e-9)  # 0.01 * 300 must allow 3, whatever its last bit
    if allowed >= n:
        return -math.inf
    return float(np.sort(scores_of_negatives)[n - 1 - allowed])


def _newton(z: Floats, targets: Floats, intercept: float) -> tuple[float, float]:
    """Minimise the cross-entropy of sigmoid(slope * z + intercept); returns both."""
    design = np.stack([z, np.ones_like(z)], axis=1)
    theta = np.array([0.0, intercept])
    loss = _cross_entropy(design @ theta, targets)
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(design @ theta)
        gradient = design.T @ (p - targets)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-10:
            trial = _cross_entropy(design @ (theta - size * step), targets)
            if trial <= loss:
                break
            size /= 2
        theta, improvement, loss = theta - size * step, loss - trial, trial
        if improvement < _CONVERGED:
            break
    return float(theta[0]), float(theta[1])


def _cross_entropy(logits: Floats, targets: Floats) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).sum())


def _sigmoid(logits: Floats) -> Floats:
    # exp of a non-positive number only, so that no logit overflows.
    small = np.exp(-np.abs(logits))
    result: Floats = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return result


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
