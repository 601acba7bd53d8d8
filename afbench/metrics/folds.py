"""Cases by fold: scores of different folds come from different fits and are never compared.

A statistic of a detector is computed within each fold and averaged over the folds, each fold
counting once, for the value and for each bootstrap replicate alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from afbench.metrics.arrays import (
    Bools,
    Floats,
    Ints,
    Weights,
    count_distinct,
    require_same_length,
)
from afbench.metrics.bootstrap import replicate

Statistic = Callable[[Ints, Weights], Floats]
"""(indices of cases [m], their weights [r, m]) -> the statistic under each row of weights, [r]."""


@dataclass(frozen=True)
class Need:
    """The fewest faking and sincere cases that a statistic is computed from, in each fold."""

    positives: int = 0
    negatives: int = 0

    def met(self, labels: Bools) -> bool:
        positives = int(labels.sum())
        return positives >= self.positives and len(labels) - positives >= self.negatives

    def __str__(self) -> str:
        parts = [(self.positives, "faking"), (self.negatives, "sincere")]
        return " and ".join(f"{count} {name}" for count, name in parts if count) + " cases"


@dataclass(frozen=True)
class FoldedCases:
    """The cases that a figure rests on: those of the folds that are large enough.

    Attributes:
        parts: indices of the cases of each fold that is used.
        strata: int array [n]: within each, organisms stand for one another (see `strata`).
        organisms, scenarios: int arrays [n], of all cases.
        reason: why no fold can be used, or None.
        note: which folds are left out, or None.
    """

    parts: tuple[Ints, ...]
    strata: Ints
    organisms: Ints
    scenarios: Ints
    reason: str | None
    note: str | None

    @property
    def used(self) -> Ints:
        """Indices of all cases in use."""
        return np.concatenate(self.parts) if self.parts else np.zeros(0, dtype=np.int64)

    @property
    def clusters(self) -> int:
        """Organisms among the cases in use."""
        return count_distinct(self.organisms[self.used])

    def value(self, statistic: Statistic) -> float:
        """The statistic on the cases themselves, averaged over folds."""
        return float(np.mean(self.value_by_fold(statistic)))

    def value_by_fold(self, statistic: Statistic) -> Floats:
        """The statistic on each fold's cases, [folds]."""
        ones = [np.ones((1, len(part)), dtype=np.float32) for part in self.parts]
        return np.array(
            [statistic(part, one)[0] for part, one in zip(self.parts, ones, strict=True)]
        )

    def replicates(self, statistic: Statistic, replicates: int, seed: int) -> Floats:
        """The same for each bootstrap replicate, [R]."""
        return mean_over_folds(self.replicates_by_fold(statistic, replicates, seed))

    def replicates_by_fold(self, statistic: Statistic, replicates: int, seed: int) -> Floats:
        """The statistic of each fold in each bootstrap replicate, [folds, R]."""
        used = self.used
        ends = np.cumsum([len(part) for part in self.parts])[:-1]
        places = np.split(np.arange(len(used)), ends)

        def by_fold(weights: Weights) -> Floats:
            return np.stack(
                [
                    statistic(part, np.take(weights, place, axis=1))
                    for part, place in zip(self.parts, places, strict=True)
                ],
                axis=1,
            )

        values = replicate(
            by_fold,
            self.organisms[used],
            self.scenarios[used],
            self.strata[used],
            replicates=replicates,
            seed=seed,
        )
        return np.ascontiguousarray(values.T)


def mean_over_folds(values: Floats) -> Floats:
    """The mean over folds of values [folds, R], each fold counting once.

    A fold that lost a whole class in a replicate (NaN) is left out of that replicate's mean.
    """
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    mean = np.full(values.shape[1], np.nan)
    np.divide(total, defined.sum(axis=0), out=mean, where=defined.any(axis=0))
    return mean


def fold_cases(
    labels: Bools, organisms: Ints, scenarios: Ints, folds: Ints | None, need: Need, why: str
) -> FoldedCases:
    """Sort cases into folds and leave out the folds that are too small.

    Args:
        labels, organisms, scenarios, folds: arrays [n]; folds None means a single fold.
        need: the fewest cases of each class, in each fold.
        why: the rest of the sentence "needs <need> ...", for the reason of a refusal.

    Raises:
        ValueError: lengths differ.
    """
    n = require_same_length(labels=labels, organisms=organisms, scenarios=scenarios, folds=folds)
    fold_of = np.zeros(n, dtype=np.int64) if folds is None else folds
    parts = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
    kept = tuple(part for part in parts if need.met(labels[part]))
    positives = int(labels.sum())
    have = f"{positives} faking and {n - positives} sincere"
    reason = note = None
    if not kept:
        within = " in at least one fold" if len(parts) > 1 else ""
        reason = f"needs {need}{within} {why}; there are {have}"
        reason += f" over {len(parts)} folds" if len(parts) > 1 else ""
    elif len(kept) < len(parts):
        left_out = len(parts) - len(kept)
        note = f"{left_out} of {len(parts)} folds left out: fewer than {need}"
    strata = resampling_strata(labels, organisms, fold_of)
    return FoldedCases(kept, strata, organisms, scenarios, reason, note)


def resampling_strata(labels: Bools, organisms: Ints, folds: Ints) -> Ints:
    """The stratum of each case for the bootstrap of a detector's figures, int array [n].

    Organisms stand for others of the same kind (mostly faking, mostly sincere) and fold. Where
    that leaves one organism alone (leave-one-organism-out), or organisms span folds (in
    distribution), they stand for those of the same kind in any fold: variation between organisms
    is then still in the interval, and a fold that is not drawn drops out of the replicate.
    """
    names, organism_of = np.unique(organisms, return_inverse=True)
    size = np.bincount(organism_of, minlength=len(names))
    faking = np.bincount(organism_of, weights=labels.astype(float), minlength=len(names))
    kind = (2 * faking >= size).astype(np.int64)
    homes = np.unique(np.stack([organism_of, folds], axis=1), axis=0)
    if len(homes) == len(names):
        cells = np.stack([kind, homes[:, 1]], axis=1)
        _, stratum, members = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        if members.min() >= 2:
            by_cell: Ints = stratum.reshape(-1)[organism_of]
            return by_cell
    by_kind: Ints = kind[organism_of]
    return by_kind
