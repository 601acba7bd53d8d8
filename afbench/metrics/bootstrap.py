"""The clustered bootstrap behind every interval: organisms first, then their scenarios.

Cases of one organism are alike, and so are cases of one scenario within it, so neither may be
resampled as if it were independent (Davison & Hinkley 1997, section 3.8; Field & Welsh 2007).
A replicate draws organisms with replacement within their stratum, then scenarios with
replacement within each organism drawn; a case's weight is the number of times it was drawn.
Scenarios are treated as nested in organisms: that two organisms met the same scenario is not
used.

A stratum with a single organism draws that organism every time. Its level then adds no variance,
and the interval speaks of new scenarios for that organism, not of new organisms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from afbench.metrics.arrays import Floats, Ints, Weights, require_same_length
from afbench.metrics.memo import Memo, key_of

_CELLS_PER_CHUNK = 2_000_000
"""Weights held at a time. It decides which random numbers a replicate gets: keep it fixed."""

_Drawn = tuple[Ints, tuple[Weights, ...]]
"""The cluster of each case [n], and how often each cluster is drawn, chunk by chunk [r, clusters].
"""
_DRAWN: Memo[_Drawn] = Memo(
    128_000_000, size=lambda drawn: drawn[0].nbytes + sum(part.nbytes for part in drawn[1])
)


def cluster_weights(
    organisms: Ints, scenarios: Ints, strata: Ints | None, replicates: int, seed: int
) -> Weights:
    """How often each case is drawn in each replicate of the two-level bootstrap.

    Args:
        organisms: int array [n], the organism of each case.
        scenarios: int array [n], the scenario of each case; equal numbers in different organisms
            are different clusters. Several cases of one scenario are drawn together.
        strata: int array [n] or None (one stratum); constant within an organism.
        replicates: R.
        seed: the same arguments give the same weights.

    Returns:
        float32 array [R, n] of whole numbers.

    Raises:
        ValueError: lengths differ, there are no cases, or an organism lies in several strata.
    """
    chunks = list(_weight_chunks(organisms, scenarios, strata, replicates, seed))
    return np.concatenate(chunks) if chunks else np.zeros((0, len(organisms)), dtype=np.float32)


def replicate(
    statistic: Callable[[Weights], Floats],
    organisms: Ints,
    scenarios: Ints,
    strata: Ints | None = None,
    *,
    replicates: int,
    seed: int,
) -> Floats:
    """`statistic` of the weights [r, n], chunk by chunk, so that memory stays bounded.

    The same organisms, scenarios, strata, replicates and seed give the same weights, which is
    what makes two statistics computed by two calls paired.

    Returns:
        float array [R] or [R, k], as `statistic` returns [r] or [r, k].
    """
    chunks = _weight_chunks(organisms, scenarios, strata, replicates, seed)
    return np.concatenate([statistic(weights) for weights in chunks])


@dataclass(frozen=True)
class _Clusters:
    """Cases sorted out into (organism, scenario) clusters; clusters of an organism adjoin."""

    of_case: Ints  # [n] cluster of each case
    per_organism: Ints  # [O] number of clusters
    strata: tuple[Ints, ...]  # organisms of each stratum


def _weight_chunks(
    organisms: Ints, scenarios: Ints, strata: Ints | None, replicates: int, seed: int
) -> Iterator[Weights]:
    n = require_same_length(organisms=organisms, scenarios=scenarios, strata=strata)
    if n == 0:
        raise ValueError("there are no cases to resample")
    key = key_of(organisms, scenarios, strata, replicates, seed, _CELLS_PER_CHUNK)
    known = _DRAWN.find(key)
    if known is not None:
        of_case, parts = known
        for counts in parts:
            yield np.take(counts, of_case, axis=1)
        return
    clusters = _sort_out(organisms, scenarios, strata)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_PER_CHUNK // n)
    # What would be too large to keep is not gathered either.
    fits = 4 * replicates * int(clusters.per_organism.sum()) < _DRAWN.max_bytes
    drawn: list[Weights] = []
    for start in range(0, replicates, step):
        counts = _draw(clusters, min(step, replicates - start), rng)
        if fits:
            drawn.append(counts)
        yield np.take(counts, clusters.of_case, axis=1)
    if fits:
        _DRAWN.keep(key, (clusters.of_case, tuple(drawn)))


def _sort_out(organisms: Ints, scenarios: Ints, strata: Ints | None) -> _Clusters:
    names, organism_of_case = np.unique(organisms, return_inverse=True)
    pairs = np.stack([organism_of_case, scenarios], axis=1)
    distinct, of_case = np.unique(pairs, axis=0, return_inverse=True)
    per_organism = np.bincount(distinct[:, 0], minlength=len(names))
    return _Clusters(
        of_case=of_case.reshape(-1),
        per_organism=per_organism,
        strata=_organisms_by_stratum(names, organism_of_case, strata),
    )


def _organisms_by_stratum(
    names: Ints, organism_of_case: Ints, strata: Ints | None
) -> tuple[Ints, ...]:
    if strata is None:
        return (np.arange(len(names)),)
    pairs = np.unique(np.stack([organism_of_case, strata], axis=1), axis=0)
    if len(pairs) > len(names):
        twice = names[pairs[:-1][pairs[:-1, 0] == pairs[1:, 0]][0, 0]]
        raise ValueError(f"organism {twice} lies in more than one stratum")
    return tuple(pairs[pairs[:, 1] == stratum, 0] for stratum in np.unique(pairs[:, 1]))


def _draw(clusters: _Clusters, rows: int, rng: np.random.Generator) -> Weights:
    """Multiplicity of each cluster in `rows` replicates, float32 [rows, clusters]."""
    drawn = np.zeros((rows, len(clusters.per_organism)), dtype=np.int64)
    for members in clusters.strata:
        k = len(members)
        drawn[:, members] = _multiplicities(np.full(rows, k), k, rng)
    counts = np.empty((rows, int(clusters.per_organism.sum())), dtype=np.float32)
    start = 0
    for organism, size in enumerate(clusters.per_organism):
        # Each time an organism is drawn its scenarios are drawn afresh, `size` of them with
        # replacement; m such draws are together one draw of m * size.
        totals = drawn[:, organism] * size
        counts[:, start : start + size] = _multiplicities(totals, int(size), rng)
        start += size
    return counts


def _multiplicities(totals: Ints, k: int, rng: np.random.Generator) -> Ints:
    """Row r: how often each of k equally likely items comes up in totals[r] draws, [rows, k]."""
    rows = len(totals)
    if k == 1:
        return totals[:, None]
    picks = rng.integers(0, k, size=int(totals.sum()))
    cells = np.repeat(np.arange(rows) * k, totals) + picks
    return np.bincount(cells, minlength=rows * k).reshape(rows, k)
