from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.contract.synthetic import synthetic_cases
from afbench.detection.cascade import ProbeAndJudge, ZScale, cascaded, open_zone
from afbench.errors import UnknownNameError
from afbench.store import Store

PARAMS: dict[str, Any] = {"poolings": ["all_mean"], "strengths": [0.01]}


def test_the_zone_leaves_out_the_given_share_of_each_class() -> None:
    scores = np.concatenate([np.linspace(0, 10, 101), np.linspace(-5, 5, 101)])
    labels = np.repeat([True, False], 101)
    low, high = open_zone(scores, labels, 0.05)
    assert (low, high) == pytest.approx((0.5, 4.5))


def test_classes_that_do_not_overlap_leave_nothing_open() -> None:
    scores, labels = np.array([5.0, 6.0, 1.0, 2.0]), np.array([True, True, False, False])
    low, high = open_zone(scores, labels, 0.0)
    assert low == high == 3.5


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=20), st.floats(0, 1))
def test_the_cascade_never_takes_a_case_out_of_its_zone(probe: list[float], where: float) -> None:
    scores = np.array(probe)
    found = cascaded(scores, np.full(len(scores), where), -1.0, 1.0)
    inside = (scores >= -1) & (scores <= 1)
    np.testing.assert_array_equal(found[~inside], scores[~inside])
    assert ((found[inside] >= -1) & (found[inside] <= 1)).all()


def test_a_scale_has_mean_zero_and_spread_one_and_keeps_constants() -> None:
    scaled = ZScale().fit(np.array([1.0, 3.0]))(np.array([1.0, 3.0, 5.0]))
    assert scaled.tolist() == [-1.0, 1.0, 3.0]
    assert ZScale().fit(np.array([2.0, 2.0]))(np.array([2.0, 3.0])).tolist() == [0.0, 1.0]


def test_a_judge_that_says_the_same_of_all_leaves_the_probes_order(tmp_path: Path) -> None:
    cases, labels = synthetic_cases(
        seed=0, groups=4, tier="activations", needs_parent=False, store=Store(tmp_path)
    )
    for mode in ("weighted", "cascade"):
        detector = ProbeAndJudge(mode, **PARAMS)  # type: ignore[arg-type]
        detector._judged = lambda cases: np.full(len(cases), 0.5)  # type: ignore[method-assign]
        detector.fit(cases, labels)
        scores = detector.score(cases)
        features = np.stack([c.handle.activations([c.messages], [detector.layer], ["all_mean"])
                             for c in cases])[:, 0, 0, 0]  # fmt: skip
        np.testing.assert_array_equal(
            np.argsort(scores, kind="stable"),
            np.argsort(detector._probe.score(features), kind="stable"),
        )


def test_the_cascade_asks_the_judge_of_open_cases_only(tmp_path: Path) -> None:
    cases, labels = synthetic_cases(
        seed=0, groups=4, tier="activations", needs_parent=False, store=Store(tmp_path)
    )
    detector = ProbeAndJudge("cascade", **PARAMS)
    detector.fit(cases, labels)
    asked: list[int] = []

    def judged(some: Any) -> Any:
        asked.append(len(some))
        return np.zeros(len(some))

    detector._judged = judged  # type: ignore[method-assign]
    detector.low, detector.high = -0.5, 0.5
    detector.score(cases)
    detector.low, detector.high = 90.0, 91.0
    detector.score(cases)
    assert len(asked) == 1, "nobody is asked where nothing is open"
    assert 0 < asked[0] < len(cases)


def test_an_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cascade'"):
        ProbeAndJudge("cascades", **PARAMS)  # type: ignore[arg-type]
