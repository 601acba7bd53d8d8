"""How often a check is right, on drawn scores; `benchmarks/regression_rates.py` measures more."""

from __future__ import annotations

import numpy as np

from afbench.regression.comparison import Change, compare
from afbench.regression.metrics import metric_of
from afbench.regression.paired import Procedure
from tests.regression.drawn import common_errors, drawn_cases

CHECKS = 40


def checks(shift: float, *, allowed: float = 0.02) -> list[Change]:
    rng = np.random.default_rng(0)
    cases = drawn_cases(4, 6, 30)
    return [
        compare(
            metric_of("auroc"), cases, *common_errors(cases, rng, shift=shift),
            names=("now", "before"), allowed=allowed, procedure=Procedure(replicates=300),
        )
        for _ in range(CHECKS)
    ]  # fmt: skip


def rate(changes: list[Change]) -> float:
    return float(np.mean([change.verdict == "worse" for change in changes]))


def test_two_equally_good_detectors_are_seldom_called_worse() -> None:
    assert rate(checks(0.0, allowed=0.0)) <= 0.05  # even where nothing is tolerated
    tolerated = checks(0.0)
    assert rate(tolerated) == 0
    assert abs(np.mean([change.drop for change in tolerated])) < 0.01


def test_a_drop_of_the_size_that_is_called_detectable_is_found() -> None:
    found = checks(0.75)
    drops = [change.drop for change in found]
    detectable = [change.detectable or np.nan for change in found]
    assert 0.9 < np.mean(drops) / np.mean(detectable) < 1.25
    assert rate(found) >= 0.8


def test_a_drop_that_is_tolerated_is_not_red() -> None:
    found = checks(0.2, allowed=0.05)
    assert 0.01 < np.mean([change.drop for change in found]) < 0.05
    assert rate(found) <= 0.05
