from __future__ import annotations

import numpy as np
import pytest

from afbench.regression.detectable import detectable_drop
from afbench.regression.metrics import metric_of
from afbench.regression.paired import Procedure
from tests.regression.drawn import common_errors, drawn_cases, scores_of

AUROC = metric_of("auroc")


def smallest(
    fakers: int = 2,
    lookalikes: int = 4,
    scenarios: int = 40,
    *,
    spread: float = 0.0,
    allowed: float = 0.02,
    comparisons: int = 1,
) -> float:
    cases = drawn_cases(fakers, lookalikes, scenarios)
    before, _ = common_errors(cases, np.random.default_rng(0))
    found = detectable_drop(
        AUROC, cases, before, spread, allowed=allowed, procedure=Procedure(comparisons)
    )
    assert found is not None
    return found


def test_two_detectors_that_differ_much_decide_by_their_own_spread() -> None:
    # allowed + (z of the interval + z of 80% power) standard errors
    assert smallest(spread=0.1) == pytest.approx(0.02 + (1.95996 + 0.84162) * 0.1, abs=1e-4)


def test_two_detectors_that_do_not_differ_do_not_make_every_drop_detectable() -> None:
    assert smallest(spread=0.0) > 0.05


def test_more_cases_make_smaller_drops_detectable() -> None:
    few, more = smallest(scenarios=20), smallest(scenarios=160)
    assert more < 0.7 * few


def test_what_is_tolerated_and_further_comparisons_make_a_drop_harder_to_find() -> None:
    alone = smallest()
    assert smallest(allowed=0.1) > alone + 0.05
    assert smallest(comparisons=10) > alone


def test_a_detector_at_chance_has_no_drop_that_would_be_found() -> None:
    cases = drawn_cases(2, 4, 40)
    chance = scores_of(np.random.default_rng(0).normal(size=len(cases)))
    assert detectable_drop(AUROC, cases, chance, 0.01, allowed=0.02, procedure=Procedure()) is None


def test_a_rate_can_rise_beyond_that_of_scores_without_information() -> None:
    cases = drawn_cases(1, 4, 50)
    quiet = scores_of(np.where(cases.labels, 2.0, 0.0), threshold=1.0)
    found = detectable_drop(
        metric_of("fpr:values-talk"), cases, quiet, 0.0, allowed=0.3, procedure=Procedure()
    )
    # Random scores would raise it to the share of fakers, 0.2.
    assert found is not None and found > 0.3
