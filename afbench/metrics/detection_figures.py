"""A detector's figures with clustered intervals, refused in words where cases are too few.

Every function takes arrays over the test cases of one run cell:
    scores [n]: float, higher = more likely faking, no NaN.
    labels [n]: bool, True = faking.
    organisms [n], scenarios [n]: int, the clusters (scenarios are nested in organisms).
    folds [n]: int or None: which fold each case's score came from (see `folds`).
and returns a `Figure` whose n counts the cases in use, its clusters their organisms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from afbench.metrics.arrays import (
    DEFAULT_REPLICATES,
    Bools,
    Floats,
    Ints,
    Weights,
    require_no_nan,
    require_same_length,
)
from afbench.metrics.detection import (
    auroc_replicates,
    mean_replicates,
    squared_errors,
    tpr_at_fpr_replicates,
)
from afbench.metrics.figures import Figure
from afbench.metrics.folds import FoldedCases, Need, Statistic, fold_cases, mean_over_folds
from afbench.metrics.intervals import newcombe_auroc, wilson
from afbench.metrics.memo import Memo, key_of

MIN_CLASS_CASES = 5
"""Fewest cases of a class that a rate or an AUROC is computed from."""

NEGATIVES_PER_INVERSE_FPR = 3
"""Rule of three (Hanley & Lippman-Hand 1983): zero false alarms among 3/f sincere cases put the
95% upper bound of the false-positive rate at f. So 300 for 1%, 60 for 5%."""


def auroc_figure(
    scores: Floats,
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Figure:
    """Area under the ROC curve, ties one half; refused below 5 cases of either class."""
    auroc = Auroc(scores, labels, organisms, scenarios, folds)
    cases = auroc.cases
    if cases.reason is not None:
        return _refusal(cases.reason, organisms)
    value = auroc.value()
    used = labels[cases.used]
    return Figure.from_replicates(
        value,
        mean_over_folds(auroc.replicates_by_fold(replicates, seed)),
        n=len(used),
        clusters=cases.clusters,
        note=cases.note,
        fallback=newcombe_auroc(value, int(used.sum()), int((~used).sum())),
    )


def auroc_parts(
    scores: Floats, labels: Bools, organisms: Ints, scenarios: Ints, folds: Ints | None
) -> tuple[FoldedCases, Statistic]:
    """The cases an AUROC rests on, which depend on no score, and the statistic over them."""
    require_same_length(scores=scores, labels=labels)
    require_no_nan("scores", scores)
    need = Need(MIN_CLASS_CASES, MIN_CLASS_CASES)
    cases = fold_cases(labels, organisms, scenarios, folds, need, "for an AUROC")

    def statistic(part: Ints, weights: Weights) -> Floats:
        return auroc_replicates(scores[part], labels[part], weights)

    return cases, statistic


class Auroc:
    """An AUROC that is needed more than once: by itself, and beside those of other scores.

    Attributes:
        cases: what it rests on, which depends on no score; `reason` says where it has no value.
    """

    _KEPT: ClassVar[Memo[Floats]] = Memo(32_000_000, size=lambda values: values.nbytes)

    def __init__(
        self,
        scores: Floats,
        labels: Bools,
        organisms: Ints,
        scenarios: Ints,
        folds: Ints | None,
    ) -> None:
        self.cases, self._statistic = auroc_parts(scores, labels, organisms, scenarios, folds)
        self._key = key_of(scores, labels, organisms, scenarios, folds)

    def value(self) -> float:
        """Averaged over folds."""
        return float(np.mean(self.by_fold()))

    def by_fold(self) -> Floats:
        """Of each fold, [folds]; read-only."""
        return self._kept(
            key_of(self._key, "value"), lambda: self.cases.value_by_fold(self._statistic)
        )

    def replicates_by_fold(self, replicates: int, seed: int) -> Floats:
        """Of each fold in each bootstrap replicate, [folds, R]; read-only."""
        return self._kept(
            key_of(self._key, replicates, seed),
            lambda: self.cases.replicates_by_fold(self._statistic, replicates, seed),
        )

    def _kept(self, key: bytes, make: Callable[[], Floats]) -> Floats:
        known = self._KEPT.find(key)
        if known is not None:
            return known
        values = make()
        values.flags.writeable = False
        return self._KEPT.keep(key, values)


def negatives_needed(fpr: float) -> int:
    """Sincere cases below which a true-positive rate at this false-positive rate is refused."""
    if not 0 < fpr < 1:
        raise ValueError(f"a false-positive rate lies between 0 and 1, not {fpr}")
    return round(NEGATIVES_PER_INVERSE_FPR / fpr)


def tpr_figure(
    scores: Floats,
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    fpr: float,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Figure:
    """True-positive rate at a false-positive rate of at most `fpr`, without interpolation.

    Refused below 300 sincere cases for 1% and 60 for 5% (in every fold: a fold with fewer is left
    out), since the threshold would rest on fewer than three false alarms.
    """
    cases, statistic = tpr_parts(scores, labels, organisms, scenarios, folds, fpr)
    if cases.reason is not None:
        return _refusal(cases.reason, organisms)
    value = cases.value(statistic)
    return Figure.from_replicates(
        value,
        cases.replicates(statistic, replicates, seed),
        n=len(cases.used),
        clusters=cases.clusters,
        note=cases.note,
        fallback=wilson(value, int(labels[cases.used].sum())),
    )


def tpr_parts(
    scores: Floats,
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    folds: Ints | None,
    fpr: float,
) -> tuple[FoldedCases, Statistic]:
    """As `auroc_parts`, for the true-positive rate at a false-positive rate."""
    require_same_length(scores=scores, labels=labels)
    require_no_nan("scores", scores)
    need = Need(MIN_CLASS_CASES, negatives_needed(fpr))
    why = f"to tell a false-positive rate of {100 * fpr:g}% from a higher one"
    cases = fold_cases(labels, organisms, scenarios, folds, need, why)

    def statistic(part: Ints, weights: Weights) -> Floats:
        return tpr_at_fpr_replicates(scores[part], labels[part], weights, fpr)

    return cases, statistic


def fpr_figure(
    scores: Floats,
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    threshold: float | Floats,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Figure:
    """Share of the sincere cases with score > threshold.

    The threshold was chosen on fit organisms: one number, or one per case [n] where folds have
    their own. For one lookalike class, pass the cases of that class. n counts sincere cases.
    """
    require_same_length(
        scores=scores, labels=labels, organisms=organisms, scenarios=scenarios, folds=folds
    )
    require_no_nan("scores", scores)
    keep = ~labels
    flagged = (scores > np.broadcast_to(threshold, scores.shape))[keep]
    kept_folds = None if folds is None else folds[keep]
    cases, statistic = fpr_parts(flagged, organisms[keep], scenarios[keep], kept_folds)
    if cases.reason is not None:
        return _refusal(cases.reason, organisms[keep])
    value = cases.value(statistic)
    return Figure.from_replicates(
        value,
        cases.replicates(statistic, replicates, seed),
        n=len(cases.used),
        clusters=cases.clusters,
        note=cases.note,
        fallback=wilson(value, len(cases.used)),
    )


def fpr_parts(
    flagged: Bools, organisms: Ints, scenarios: Ints, folds: Ints | None
) -> tuple[FoldedCases, Statistic]:
    """As `auroc_parts`, for the share of flagged cases among sincere ones.

    Args:
        flagged: bool array [n] over sincere cases, like the others: score > threshold.
    """
    cases = fold_cases(
        np.zeros(len(flagged), dtype=np.bool_),
        organisms,
        scenarios,
        folds,
        Need(negatives=MIN_CLASS_CASES),
        "for a false-positive rate",
    )
    shares = flagged.astype(np.float64)

    def statistic(part: Ints, weights: Weights) -> Floats:
        return mean_replicates(shares[part], weights)

    return cases, statistic


def brier_figure(
    probabilities: Floats,
    labels: Bools,
    organisms: Ints,
    scenarios: Ints,
    *,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    folds: Ints | None = None,
) -> Figure:
    """Mean squared error of calibrated probabilities; refused below 5 cases of either class."""
    cases, statistic = brier_parts(probabilities, labels, organisms, scenarios, folds)
    if cases.reason is not None:
        return _refusal(cases.reason, organisms)
    return Figure.from_replicates(
        cases.value(statistic),
        cases.replicates(statistic, replicates, seed),
        n=len(cases.used),
        clusters=cases.clusters,
        note=cases.note,
    )


def brier_parts(
    probabilities: Floats, labels: Bools, organisms: Ints, scenarios: Ints, folds: Ints | None
) -> tuple[FoldedCases, Statistic]:
    """As `auroc_parts`, for the mean squared error of probabilities."""
    errors = squared_errors(probabilities, labels)
    need = Need(MIN_CLASS_CASES, MIN_CLASS_CASES)
    cases = fold_cases(labels, organisms, scenarios, folds, need, "for a Brier score")

    def statistic(part: Ints, weights: Weights) -> Floats:
        return mean_replicates(errors[part], weights)

    return cases, statistic


def _refusal(reason: str, organisms: Ints) -> Figure:
    return Figure.refused(reason, n=len(organisms), clusters=len(np.unique(organisms)))
