"""Budgets and the cost/score front, against closed forms."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from afbench.catalog.manifests import DetectorManifest
from afbench.results.uplift import affordable, is_rival, pareto_front

POINTS = st.lists(
    st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), min_size=1, max_size=12
)


def test_the_front_of_a_staircase_leaves_out_what_is_beaten() -> None:
    points = [(0.0, 0.5), (1.0, 0.7), (1.0, 0.6), (2.0, 0.7), (3.0, 0.9), (4.0, 0.4)]
    assert pareto_front(points) == [True, True, False, False, True, False]


def test_equals_are_all_on_the_front() -> None:
    assert pareto_front([(1.0, 0.5), (1.0, 0.5)]) == [True, True]


@given(POINTS)
def test_the_front_rises_and_beats_all_the_rest(points: list[tuple[float, float]]) -> None:
    kept = pareto_front(points)
    front = sorted({point for point, yes in zip(points, kept, strict=True) if yes})
    assert front
    scores = [score for _, score in front]
    assert scores == sorted(set(scores)), "what costs more scores more"
    for (cost, score), yes in zip(points, kept, strict=True):
        if not yes:
            assert any(c <= cost and s >= score for c, s in front)


def test_a_budget_buys_what_costs_no_more() -> None:
    assert affordable(100, {"b": 100, "a": 0, "c": 101}) == ["a", "b"]
    assert affordable(0, {"b": 100}) == []


def test_a_black_box_that_sees_contrasts_is_no_rival_of_a_probe_that_does_not() -> None:
    def manifest(tier: str, **more: Any) -> DetectorManifest:
        fields = {"schema": 1, "kind": "detector", "name": "one", "summary": "s", "tier": tier}
        return DetectorManifest.model_validate({**fields, "entry": "detector.py:One", **more})

    blind, seeing = manifest("logprobs"), manifest("logprobs", contrast=True)
    probe, pair_probe = manifest("activations"), manifest("activations", contrast=True)
    assert is_rival(blind, of=probe)
    assert not is_rival(seeing, of=probe)
    assert is_rival(blind, of=pair_probe)
    assert is_rival(seeing, of=pair_probe)
    assert not is_rival(manifest("text", floor=True), of=probe)
    assert not is_rival(manifest("text", ceiling=True), of=pair_probe)
    assert not is_rival(probe, of=pair_probe)
