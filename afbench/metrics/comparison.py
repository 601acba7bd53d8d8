"""Paired comparisons of detectors on the same cases, and of detectors with the organisms.

Both detectors are resampled with the same weights, so that what makes a replicate easy or hard
for both cancels in the difference. Detectors whose difference cannot be told from 0 are tied.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from afbench.metrics.arrays import (
    DEFAULT_REPLICATES,
    Bools,
    Floats,
    Ints,
    Weights,
    require_no_nan,
    require_same_length,
)
from afbench.metrics.bootstrap import replicate
from afbench.metrics.detection_figures import Auroc
from afbench.metrics.figures import Figure
from afbench.metrics.folds import Statistic, mean_over_folds

MIN_ORGANISMS = 5
"""Fewest organisms that a rank correlation over organisms is computed from."""


class Comparison(BaseModel):
    """A detector against another on the same cases.

    Attributes:
        rival: name of the other detector, where it was chosen among several.
        difference: AUROC of the detector minus AUROC of the rival.
        p_value: two-sided, by inverting the percentile interval; None if refused.
        tied: the difference cannot be told from 0 at 95%, or there is no interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rival: str | None = None
    difference: Figure
    p_value: float | None
    tied: bool


def compare_auroc(
    first: Floats,
    second: Floats,
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
    rival: str | None = None,
) -> Comparison:
    """AUROC(first) - AUROC(second) with a paired interval and a two-sided p-value.

    Args:
        first, second: float arrays [n], the scores of two detectors on the same cases.
        labels, organisms, scenarios, folds: as in `detection_figures`.
        rival: name of the second detector, carried into the result.
    """
    ours, theirs = (
        Auroc(scores, labels, organisms, scenarios, folds) for scores in (first, second)
    )
    cases = ours.cases
    if cases.reason is not None:
        refusal = Figure.refused(cases.reason, n=len(labels))
        return Comparison(rival=rival, difference=refusal, p_value=None, tied=True)

    resampled = mean_over_folds(
        ours.replicates_by_fold(replicates, seed) - theirs.replicates_by_fold(replicates, seed)
    )
    difference = Figure.from_replicates(
        float(np.mean(ours.by_fold() - theirs.by_fold())),
        resampled,
        n=len(cases.used),
        clusters=cases.clusters,
        note=cases.note,
    )
    low, high = difference.low, difference.high
    if low is None or high is None:
        return Comparison(rival=rival, difference=difference, p_value=None, tied=True)
    return Comparison(
        rival=rival,
        difference=difference,
        p_value=two_sided_p(resampled),
        tied=low <= 0 <= high,
    )


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """The first statistic minus the second, under the same weights: the paired difference."""

    def statistic(part: Ints, weights: Weights) -> Floats:
        difference: Floats = first(part, weights) - second(part, weights)
        return difference

    return statistic


def two_sided_p(differences: Floats) -> float:
    """Two-sided bootstrap p-value of "the difference is 0" from replicates [R] of it.

    2 * min(share <= 0, share >= 0), one count added to each so that it is never 0 (Davison &
    Hinkley 1997, section 4.4), at most 1. NaN replicates are ignored.
    """
    defined = differences[np.isfinite(differences)]
    fewer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(defined) + 1))


def excess_over_best(
    scores: Floats,
    rivals: Mapping[str, Floats],
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Comparison:
    """AUROC of `scores` minus that of the best of `rivals`, by point AUROC on the same cases.

    The best is chosen on the cases it is compared on, which flatters the rivals, never the
    detector. Of equally good rivals the first by name is taken.
    """
    if not rivals:
        refusal = Figure.refused("there is nothing to compare with", n=len(labels))
        return Comparison(difference=refusal, p_value=None, tied=True)
    points = {}
    for name in sorted(rivals):
        auroc = Auroc(rivals[name], labels, organisms, scenarios, folds)
        points[name] = auroc.value() if auroc.cases.reason is None else 0.0
    best = max(points, key=points.__getitem__)
    return compare_auroc(
        scores,
        rivals[best],
        labels,
        organisms,
        scenarios,
        replicates=replicates,
        seed=seed,
        folds=folds,
        rival=best,
    )


def excess_over_floor(
    scores: Floats,
    floors: Mapping[str, Floats],
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Comparison:
    """A detector's AUROC over the best floor (shortcut detector); `rival` names that floor."""
    return excess_over_best(
        scores,
        floors,
        labels,
        organisms,
        scenarios,
        replicates=replicates,
        seed=seed,
        folds=folds,
    )


def white_box_uplift(
    scores: Floats,
    black_boxes: Mapping[str, Floats],
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Comparison:
    """A white-box detector's AUROC over the best black-box one that the caller's budget allows."""
    return excess_over_best(
        scores,
        black_boxes,
        labels,
        organisms,
        scenarios,
        replicates=replicates,
        seed=seed,
        folds=folds,
    )


def gap_recovery(
    scores: Floats,
    organisms: Ints,
    gaps: Mapping[int, float],
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Figure:
    """Spearman correlation between a detector's mean score per organism and the true gap.

    Scores of several folds are not comparable: pass calibrated probabilities there.

    Args:
        scores: float array [n] over cases. organisms: int array [n].
        gaps: the true gap of each organism; organisms without one are left out.

    Returns:
        A figure whose n counts organisms; its interval resamples them. Refused below five
        organisms, or when either side is constant.
    """
    require_same_length(scores=scores, organisms=organisms)
    require_no_nan("scores", scores)
    names = [int(name) for name in np.unique(organisms) if int(name) in gaps]
    n = len(names)
    if n < MIN_ORGANISMS:
        return Figure.refused(f"needs {MIN_ORGANISMS} organisms; there are {n}", n=n, clusters=n)
    means = np.array([scores[organisms == name].mean() for name in names])
    truth = np.array([gaps[name] for name in names])
    require_no_nan("gaps", truth)
    value = float(spearman_replicates(means, truth, np.ones((1, n)))[0])
    if not np.isfinite(value):
        reason = "the mean scores or the gaps of the organisms are all equal"
        return Figure.refused(reason, n=n, clusters=n)
    each = np.arange(n)

    def statistic(weights: Weights) -> Floats:
        return spearman_replicates(means, truth, weights)

    resampled = replicate(statistic, each, each, replicates=replicates, seed=seed)
    if float(np.nanstd(resampled)) < 1e-9:
        note = "interval refused: every resample of the organisms gives the same order"
        return Figure(value=value, n=n, clusters=n, note=note)
    return Figure.from_replicates(value, resampled, n=n, clusters=n)


def spearman_replicates(first: Floats, second: Floats, weights: Weights | Floats) -> Floats:
    """Spearman's rank correlation (mid-ranks) of [m] and [m] under each row of weights [R, m].

    NaN where either side is constant. A whole-number weight acts as that many copies.
    """
    row_weights = weights.astype(np.float64)
    x, y = (_weighted_ranks(side, row_weights) for side in (first, second))
    total = row_weights.sum(axis=1, keepdims=True)
    x = x - (row_weights * x).sum(axis=1, keepdims=True) / total
    y = y - (row_weights * y).sum(axis=1, keepdims=True) / total
    spread = (row_weights * x * x).sum(axis=1) * (row_weights * y * y).sum(axis=1)
    result = np.full(len(weights), np.nan)
    covariance = (row_weights * x * y).sum(axis=1)
    np.divide(covariance, np.sqrt(spread), out=result, where=spread > 1e-12)
    correlations: Floats = np.clip(result, -1.0, 1.0)
    return correlations


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Mid-rank of each value under each row of weights, [R, m]."""
    below = (values[:, None] < values[None, :]).astype(np.float64)
    equal = (values[:, None] == values[None, :]).astype(np.float64)
    ranks: Floats = weights @ below + 0.5 * (weights @ equal)
    return ranks
