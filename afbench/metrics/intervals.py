"""Closed-form 95% intervals for samples that the bootstrap cannot speak about.

A proportion of 0 or 1 has no spread to resample, so its bootstrap interval is a point, however
few cases there are. Score intervals stay honest there.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from afbench.metrics.figures import CONFIDENCE

Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927; method 3 in Newcombe 1998, Stat Med 17:857).

    Args:
        share: the observed proportion, 0..1.
        n: independent cases behind it (an effective number need not be whole); positive.
    """
    if n <= 0:
        raise ValueError("a proportion of no cases has no interval")
    centre = share + Z * Z / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    # Rounding must not push an end past a value of exactly 0 or 1.
    low = 0.0 if share == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if share == 1 else min(1.0, (centre + spread) / scale)
    return low, high


def newcombe_paired(
    both: float, first_only: float, second_only: float, neither: float
) -> tuple[float, float]:
    """Hybrid score interval of P(first) - P(second) on paired binary data.

    Method 10 of Newcombe 1998, "Improved confidence intervals for the difference between
    binomial proportions based on paired data", Statistics in Medicine 17:2635-2650: two Wilson
    intervals, combined with the continuity-corrected correlation of the pairs.

    Args:
        both, first_only, second_only, neither: counts of pairs (may be fractional).
    """
    n = both + first_only + second_only + neither
    first, second = (both + first_only) / n, (both + second_only) / n
    (first_low, first_high), (second_low, second_high) = wilson(first, n), wilson(second, n)
    phi = _paired_correlation(both, first_only, second_only, neither)
    difference = first - second
    down = _hybrid(first - first_low, second_high - second, phi)
    up = _hybrid(first_high - first, second - second_low, phi)
    return max(-1.0, difference - down), min(1.0, difference + up)


def _hybrid(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _paired_correlation(
    both: float, first_only: float, second_only: float, neither: float
) -> float:
    n = both + first_only + second_only + neither
    margins = (
        (both + first_only)
        * (second_only + neither)
        * (both + second_only)
        * (first_only + neither)
    )
    if margins <= 0:
        return 0.0
    covariance = both * neither - first_only * second_only
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    return covariance / math.sqrt(margins)


def newcombe_auroc(auroc: float, positives: int, negatives: int) -> tuple[float, float]:
    """Score-type interval of an AUROC on independent cases, honest at 0 and 1.

    Method 5 of Newcombe 2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic. Part 2", Statistics in Medicine 25:559-573: the parameters t with
    |t - auroc| <= z * sqrt(V(t)), where V is the variance of Hanley & McNeil 1982 with both
    sample sizes replaced by their mean.
    """
    if positives < 1 or negatives < 1:
        raise ValueError("an AUROC needs positives and negatives")
    low = 0.0 if auroc <= 0 else _auroc_end(auroc, 0.0, positives, negatives)
    high = 1.0 if auroc >= 1 else _auroc_end(auroc, 1.0, positives, negatives)
    return low, high


def _auroc_end(auroc: float, bound: float, positives: int, negatives: int) -> float:
    """The end of the interval between `bound` (outside it) and `auroc` (inside), by bisection."""
    mean_size = (positives + negatives) / 2 - 1
    inside, outside = auroc, bound
    for _ in range(60):
        t = (inside + outside) / 2
        spread = 1 + mean_size * ((1 - t) / (2 - t) + t / (1 + t))
        variance = t * (1 - t) * spread / (positives * negatives)
        if abs(t - auroc) <= Z * math.sqrt(variance):
            inside = t
        else:
            outside = t
    return (inside + outside) / 2
