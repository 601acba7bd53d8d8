"""The paired difference of a metric on the same cases, and how it is resampled."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from afbench.errors import NotEnoughCasesError
from afbench.metrics.arrays import DEFAULT_REPLICATES, Bools, Floats
from afbench.metrics.comparison import difference_of
from afbench.metrics.figures import CONFIDENCE, MAX_UNDEFINED_SHARE
from afbench.metrics.folds import FoldedCases, Statistic
from afbench.regression.matching import Scores, SharedCases
from afbench.regression.metrics import Metric

POWER: Final = 0.8
"""Probability of finding a drop that is called detectable."""
# A tail with fewer replicates than this has no steady quantile.
_IN_A_TAIL = 10
_OTHER = "choose another metric, or make a baseline with more scenarios"


@dataclass(frozen=True, slots=True)
class Procedure:
    """How comparisons are made.

    Attributes:
        comparisons: how many are made in this check.
        seed: of the bootstrap.
        replicates: of it; more where the tails are thin.
    """

    comparisons: int = 1
    seed: int = 0
    replicates: int = DEFAULT_REPLICATES

    @property
    def confidence(self) -> float:
        """Of each interval."""
        return 1 - (1 - CONFIDENCE) / self.comparisons

    @property
    def drawn(self) -> int:
        """Replicates that are drawn."""
        return max(self.replicates, round(2 * _IN_A_TAIL * self.comparisons / (1 - CONFIDENCE)))

    @property
    def spreads(self) -> float:
        """Standard errors that lie between what is tolerated and a drop found with `POWER`."""
        normal = NormalDist()
        return normal.inv_cdf((1 + self.confidence) / 2) + normal.inv_cdf(POWER)


@dataclass(frozen=True, slots=True)
class Paired:
    """The drop of one metric from a baseline's scores to others, and its replicates.

    Attributes:
        cases: what is resampled.
        mask: the cases that either side can be taken over.
        replicates: of the drop, [R], undefined ones left out.
    """

    cases: FoldedCases
    mask: Bools
    before: float
    now: float
    replicates: Floats


def paired(
    metric: Metric,
    tested: SharedCases,
    before: Scores,
    now: Scores,
    *,
    replicates: int,
    seed: int,
) -> Paired:
    """Resample the drop of a metric.

    Raises:
        NotEnoughCasesError: there are too few cases, or the metric is undefined in too many
            replicates.
    """
    mask = metric.uses(tested, before) & metric.uses(tested, now)
    if not mask.any():
        raise NotEnoughCasesError(f"{metric.name}: {metric.unusable}", fix=_OTHER)
    cases, first = metric.parts(tested, before, mask)
    _, second = metric.parts(tested, now, mask)
    if cases.reason is not None:
        raise NotEnoughCasesError(f"{metric.name}: {cases.reason}", fix=_OTHER)
    drop: Statistic = (
        difference_of(first, second) if metric.higher_is_better else difference_of(second, first)
    )
    drawn = cases.replicates(drop, replicates, seed)
    defined = drawn[np.isfinite(drawn)]
    if len(drawn) - len(defined) > MAX_UNDEFINED_SHARE * len(drawn):
        raise NotEnoughCasesError(
            f"{metric.name}: undefined in {len(drawn) - len(defined)} of {len(drawn)} replicates: "
            "too few organisms or scenarios to resample",
            fix=_OTHER,
        )
    return Paired(cases, mask, cases.value(first), cases.value(second), defined)
