"""How large a drop a check could have found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from afbench.errors import NotEnoughCasesError
from afbench.metrics.arrays import Bools, Ints
from afbench.regression.matching import Scores, SharedCases
from afbench.regression.metrics import Metric
from afbench.regression.paired import Procedure, paired

# Shares of cases that get the score of another one, to see what a drop of each size looks like;
# where no information at all is not bad enough, scores of the other label.
_ANY: Final = (0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.32, 0.5, 0.75, 1.0)
_REVERSED: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
_REPLICATES = 400


def detectable_drop(
    metric: Metric,
    tested: SharedCases,
    before: Scores,
    spread: float,
    *,
    allowed: float,
    procedure: Procedure,
) -> float | None:
    """The smallest drop that a check finds with a probability of 80%, or None if there is none.

    A drop is found when the lower end of its interval passes `allowed`. With a normal drop of
    standard error s that takes allowed + (z(confidence) + z(0.8)) * s. The standard error is that
    of the two detectors that were compared; where they hardly differ it says little of a detector
    that got worse, so that of planted drops is taken if it is larger: a share of the cases
    of each fold get the baseline's score of another.

    Args:
        before: the baseline's scores.
        spread: standard error of the drop that was seen.
    """
    from_seen = allowed + procedure.spreads * spread
    last = 0.0, -allowed
    for drop, error in _planted(metric, tested, before, procedure):
        needed = allowed + procedure.spreads * error
        if drop >= needed:
            return max(from_seen, _crossing(last, (drop, drop - needed)))
        last = drop, drop - needed
    return None


def _planted(
    metric: Metric, tested: SharedCases, before: Scores, procedure: Procedure
) -> Iterator[tuple[float, float]]:
    """Drops of rising size, and the standard error of each."""
    # Of faking cases too, or a rate over sincere ones could not change.
    pool = tested.scored | metric.uses(tested, before)
    steps = [(share, False) for share in _ANY] + [(share, True) for share in _REVERSED]
    largest = 0.0
    for share, reversed_labels in steps:
        order = _borrowed(tested, pool, share, procedure.seed, reversed_labels=reversed_labels)
        worse = before.taken(order)
        try:
            found = paired(
                metric, tested, before, worse, replicates=_REPLICATES, seed=procedure.seed
            )
        except NotEnoughCasesError:
            return
        drop = metric.drop(found.before, found.now)
        if drop > largest:
            largest = drop
            yield drop, float(found.replicates.std())


def _crossing(below: tuple[float, float], above: tuple[float, float]) -> float:
    """The drop at which the excess over what is needed passes zero, between two (drop, excess)."""
    (low, short), (high, over) = below, above
    if over <= short:
        return high
    return float(np.clip(high - over * (high - low) / (over - short), min(low, high), high))


def _borrowed(
    tested: SharedCases, pool: Bools, share: float, seed: int, *, reversed_labels: bool
) -> Ints:
    """Whose score each case gets, int [n]: a share of the cases that of another of their fold.

    A larger share has the same borrowers, and more.

    Args:
        pool: the cases that take part.
        reversed_labels: borrow from cases of the other label only.
    """
    rng = np.random.default_rng(seed)
    order = np.arange(len(tested))
    for fold in np.unique(tested.folds[pool]):
        members = pool & (tested.folds == fold)
        for label in (True, False):
            own = rng.permutation(np.flatnonzero(members & (tested.labels == label)))
            wanted = members & (tested.labels != label) if reversed_labels else members
            lenders = np.flatnonzero(wanted)
            if len(lenders):
                chosen = rng.choice(lenders, size=len(own))
                count = round(share * len(own))
                order[own[:count]] = chosen[:count]
    return order
