"""Statistics of a detector's scores: plain, weighted, and for all bootstrap replicates at once.

Rule throughout: a case is flagged when score > threshold, strictly. Labels are True for faking.
The statistics are NaN where a class is absent; `detection_figures` refuses with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from afbench.metrics.arrays import Bools, Floats, Weights, require_same_length

_CELLS_PER_CHUNK = 1_000_000
_TOLERANCE = 1e-9
"""Relative slack on "at most", so that 3 of 300 counts as 1% in floating point."""


def auroc(scores: Floats, labels: Bools) -> float:
    """P(score of a faking case > score of a sincere case), ties counting one half.

    Closed form by mid-ranks (Mann & Whitney 1947): (R - P(P+1)/2) / (P N), with R the sum of the
    ranks of the P positives among all P + N cases.

    Args:
        scores: float array [n]. labels: bool array [n], True = faking.

    Returns:
        A number in 0..1, or NaN if a class is absent.
    """
    require_same_length(scores=scores, labels=labels)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    rank_sum = float(mid_ranks[group][labels].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def auroc_replicates(scores: Floats, labels: Bools, weights: Weights) -> Floats:
    """The AUROC under each row of case weights; the scores are sorted once.

    Args:
        scores: float array [n]. labels: bool array [n]. weights: array [R, n], non-negative.

    Returns:
        float array [R], NaN where a class has no weight.
    """
    require_same_length(scores=scores, labels=labels, weights=weights[0] if len(weights) else None)
    negatives, positives = _sorted_class(scores, ~labels), _sorted_class(scores, labels)
    below = np.searchsorted(scores[negatives], scores[positives], side="left")
    upto = np.searchsorted(scores[negatives], scores[positives], side="right")
    tied = bool((below != upto).any())
    result = np.empty(len(weights))
    for rows in _row_chunks(weights):
        beaten_weight = _cumulative(weights[rows], negatives)
        positive_weight = np.take(weights[rows], positives, axis=1).astype(np.float64)
        beaten = np.take(beaten_weight, below, axis=1)
        if tied:
            beaten += np.take(beaten_weight, upto, axis=1)
            beaten *= 0.5
        wins = np.einsum("rp,rp->r", positive_weight, beaten)
        result[rows] = _ratio(wins, positive_weight.sum(axis=1) * beaten_weight[:, -1])
    return result


def tpr_at_fpr(scores: Floats, labels: Bools, fpr: float, weights: Floats | None = None) -> float:
    """The largest true-positive rate over all thresholds whose false-positive rate is <= fpr.

    No interpolation between thresholds: the rate is one that a real threshold attains.

    Args:
        scores: float array [n]. labels: bool array [n]. fpr: 0..1.
        weights: float array [n] of case weights, or None.

    Returns:
        A number in 0..1, or NaN if a class is absent.
    """
    row = np.ones(len(scores)) if weights is None else weights
    return float(tpr_at_fpr_replicates(scores, labels, row[None, :].astype(np.float64), fpr)[0])


def tpr_at_fpr_replicates(
    scores: Floats, labels: Bools, weights: Weights | Floats, fpr: float
) -> Floats:
    """`tpr_at_fpr` under each row of weights [R, n], the threshold chosen anew in each; [R]."""
    require_same_length(scores=scores, labels=labels, weights=weights[0] if len(weights) else None)
    negatives, positives = _sorted_class(scores, ~labels), _sorted_class(scores, labels)
    # Lowering a threshold costs nothing until it meets the next negative, so the negatives'
    # scores, and minus infinity, are all the thresholds there are to try.
    thresholds = np.concatenate([[-np.inf], scores[negatives]])
    at_most = np.searchsorted(scores[negatives], thresholds, side="right")
    at_most[0] = 0
    missed = np.searchsorted(scores[positives], thresholds, side="right")
    missed[0] = 0
    result = np.empty(len(weights))
    for rows in _row_chunks(weights):
        negative_weight = _cumulative(weights[rows], negatives)
        positive_weight = _cumulative(weights[rows], positives)
        total = negative_weight[:, -1:]
        too_many = total - np.take(negative_weight, at_most, axis=1) > (fpr + _TOLERANCE) * total
        first_allowed = np.minimum(too_many.sum(axis=1), len(thresholds) - 1)
        lost = np.take_along_axis(positive_weight, missed[first_allowed][:, None], axis=1)[:, 0]
        rate = 1 - _ratio(lost, positive_weight[:, -1])
        result[rows] = np.where(total[:, 0] > 0, rate, np.nan)
    return result


def fpr_at_threshold(
    scores_of_negatives: Floats, threshold: float | Floats, weights: Floats | None = None
) -> float:
    """Share of sincere cases [n] flagged by score > threshold (one, or one per case); NaN if 0."""
    flagged = (scores_of_negatives > threshold).astype(np.float64)
    row = np.ones(len(flagged)) if weights is None else weights.astype(np.float64)
    return float(mean_replicates(flagged, row[None, :])[0])


def brier(probabilities: Floats, labels: Bools) -> float:
    """Mean squared error of probabilities [n] of faking (Brier 1950): 0 best, 0.25 for a coin.

    Raises:
        ValueError: a probability lies outside 0..1.
    """
    return float(np.mean(squared_errors(probabilities, labels))) if len(labels) else float("nan")


def squared_errors(probabilities: Floats, labels: Bools) -> Floats:
    """(probability - label)^2 of each case, [n]; raises ValueError outside 0..1."""
    require_same_length(probabilities=probabilities, labels=labels)
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ValueError("probabilities must lie between 0 and 1: calibrate the scores first")
    errors: Floats = (probabilities - labels) ** 2
    return errors


def mean_replicates(values: Floats, weights: Weights | Floats) -> Floats:
    """Weighted mean of values [n] under each row of weights [R, n]; NaN where no weight; [R]."""
    row_weights = weights.astype(np.float64)
    return _ratio(row_weights @ values, row_weights.sum(axis=1))


def _sorted_class(scores: Floats, members: Bools) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Indices of the members, by rising score."""
    indices = np.flatnonzero(members)
    return indices[np.argsort(scores[indices], kind="stable")]


def _cumulative(
    weights: Weights | Floats, order: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> Floats:
    """Column j: weight of the first j cases of `order`, float64 [R, len(order) + 1]."""
    sums = np.zeros((len(weights), len(order) + 1))
    np.cumsum(np.take(weights, order, axis=1), axis=1, dtype=np.float64, out=sums[:, 1:])
    return sums


def _row_chunks(weights: Weights | Floats) -> Iterator[slice]:
    step = max(1, _CELLS_PER_CHUNK // max(1, weights.shape[1]))
    for start in range(0, len(weights), step):
        yield slice(start, min(start + step, len(weights)))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, NaN where the denominator is 0."""
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
