"""Rotation and transitions: closed forms on paths and series that were made up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.metrics.arrays import Floats
from afbench.zoo.trace_path import (
    deviation_of,
    local_cosine,
    peak_of,
    steepest_rise,
    transition_of,
)
from afbench.zoo.trace_record import Peak, Rise


def test_a_straight_path_has_a_cosine_of_one() -> None:
    path = np.outer(np.array([0.0, 1.0, 3.0, 3.5, 9.0]), np.array([1.0, -2.0, 0.5]))
    found = local_cosine(path)
    assert np.isnan(found[[0, -1]]).all()
    assert found[1:-1] == pytest.approx(1.0)


def test_a_right_angle_has_a_cosine_of_zero_at_its_corner_only() -> None:
    path = np.array([[0, 0], [1, 0], [2, 0], [2, 1], [2, 2]], dtype=float)
    assert local_cosine(path)[1:-1] == pytest.approx([1.0, 0.0, 1.0])


def test_a_path_that_goes_back_has_minus_one() -> None:
    assert local_cosine(np.array([[0.0], [2.0], [1.0]]))[1] == pytest.approx(-1.0)


def test_a_circle_turns_by_the_same_angle_everywhere() -> None:
    angles = 2 * math.pi * np.arange(12) / 12
    path = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert local_cosine(path)[1:-1] == pytest.approx(math.cos(2 * math.pi / 12))


def test_a_segment_without_length_has_no_direction() -> None:
    found = local_cosine(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]]))
    assert np.isnan(found).all()


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 100), st.floats(-50, 50))
def test_rotation_does_not_depend_on_where_a_path_lies_or_how_long_it_is(
    seed: int, scale: float, shift: float
) -> None:
    path = np.random.default_rng(seed).normal(size=(6, 4)).cumsum(axis=0)
    moved = local_cosine(scale * path + shift)
    assert moved[1:-1] == pytest.approx(local_cosine(path)[1:-1], abs=1e-6)


def test_the_deviation_of_a_normal_series_is_its_standard_deviation() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, 20_000)
    assert deviation_of(values) == pytest.approx(3.0, rel=0.03)


# -- peaks ---------------------------------------------------------------------------------------


def noise(count: int = 31) -> Floats:
    """A series around 0.8 in which nothing stands out."""
    return 0.8 + 0.05 * np.sin(np.arange(count) * 2.4)


def dip_of(values: Floats, every: int = 5) -> Peak:
    steps = range(0, every * len(values), every)
    return peak_of(values, steps, lowest=True, before=every, after=every)


def test_a_dip_is_found_where_it_is() -> None:
    values = noise()
    values[6], values[0], values[-1] = 0.1, np.nan, np.nan
    found = dip_of(values)
    assert found.found
    assert (found.step, found.first, found.last, found.value) == (30, 26, 35, 0.1)
    assert "0.1 at step 30" in found.detail


def test_a_peak_is_found_as_a_dip_of_what_is_upside_down() -> None:
    values = -noise()
    values[6] = 0.4
    found = peak_of(values, range(1, 32), lowest=False, before=1, after=0)
    assert found.found
    assert (found.step, found.first, found.last) == (7, 7, 7)


def test_nothing_is_found_in_mere_noise() -> None:
    found = dip_of(noise())
    assert not found.found
    assert "within 3 deviations" in found.detail


def test_what_only_falls_has_no_peak_at_its_ends() -> None:
    falling = np.exp(-np.arange(40.0))
    high = peak_of(falling, range(40), lowest=False, before=1, after=0)
    assert not high.found
    assert "nothing before it" in high.detail
    low = dip_of(-np.exp(np.arange(12.0)))
    assert not low.found
    assert "nothing after it" in low.detail


def test_a_straight_path_up_to_rounding_has_no_dip() -> None:
    values = np.ones(20)
    values[7] -= 1e-9
    assert not dip_of(values).found


def test_a_few_values_are_too_few() -> None:
    assert "too few" in dip_of(np.array([np.nan, 1.0, 0.0, 1.0, np.nan])).detail


# -- behaviour -----------------------------------------------------------------------------------

STEPS = list(range(0, 55, 5))


def test_the_steepest_rise_is_the_segment_of_the_jump() -> None:
    jump = np.array([0, 0, 0.1, 0.1, 0.9, 1, 1, 1, 1, 1, 1])
    found = steepest_rise(STEPS, np.zeros(11), jump, 2.0)
    assert found.found
    assert (found.condition, found.first, found.last) == ("unobserved", 16, 20)
    assert (found.before, found.after) == (0.1, 0.9)


def test_the_condition_that_rises_more_is_the_one_that_counts() -> None:
    small, large = np.zeros(11), np.zeros(11)
    small[3:], large[6:] = 0.3, 0.8
    assert steepest_rise(STEPS, large, small, 1.0).condition == "observed"
    assert steepest_rise(STEPS, small, large, 1.0).first == 26


def test_a_slow_rise_is_no_jump() -> None:
    assert not steepest_rise(STEPS, np.linspace(0, 1, 11), np.zeros(11), 1.0).found


def test_what_stays_as_it_is_never_rises() -> None:
    found = steepest_rise(STEPS, np.zeros(11), np.ones(11), 1.0)
    assert not found.found
    assert found.detail == "it never rises"


def test_a_checkpoint_that_could_not_be_graded_widens_the_segment() -> None:
    jump = np.array([0, 0, 0, np.nan, 1, 1, 1, 1, 1, 1, 1])
    found = steepest_rise(STEPS, jump, np.full(11, np.nan), 1.0)
    assert (found.condition, found.first, found.last) == ("observed", 11, 20)
    nothing = steepest_rise(STEPS, np.full(11, np.nan), np.full(11, np.nan), 1.0)
    assert not nothing.found


# -- all of it -----------------------------------------------------------------------------------


def at(first: int, last: int, found: bool = True) -> Peak:
    return Peak(
        found=found, step=last, first=first, last=last, value=0.1, median=0.8, deviation=0.1,
        detail="as it is",
    )  # fmt: skip


def rise(scale: float, first: int, last: int, found: bool = True) -> Rise:
    return Rise(scale=scale, found=found, first=first, last=last, before=0, after=1, detail="d")


def test_what_shares_a_step_coincides() -> None:
    found = transition_of(at(26, 35), at(32, 32), [rise(1, 36, 40), rise(5, 31, 35)], resolution=5)
    assert found.seen
    assert (found.first, found.last, found.coinciding) == (26, 35, [5])
    assert found.statement.startswith("A transition: the path of B turns in steps 26-35")
    assert "in steps 36-40 (× 1), 31-35 (× 5): within the transition at × 5." in found.statement
    assert found.statement.endswith("Resolution: 5 steps.")


def test_behaviour_that_rises_elsewhere_is_said_to() -> None:
    text = transition_of(at(26, 35), at(32, 32), [rise(1, 21, 25)], resolution=5).statement
    assert "in steps 21-25 (× 1): within the transition at no scale." in text


@pytest.mark.parametrize(
    ("rotation", "gradient", "why"),
    [
        (at(26, 35, found=False), at(32, 32), "does not turn abruptly"),
        (at(26, 35), at(32, 32, found=False), "the gradient norm has no peak"),
        (at(26, 35), at(36, 36), "has its peak elsewhere, at step 36"),
    ],
)
def test_no_transition_is_claimed_without_both(rotation: Peak, gradient: Peak, why: str) -> None:
    found = transition_of(rotation, gradient, [rise(1, 31, 35)], resolution=5)
    assert not found.seen
    assert (found.first, found.coinciding) == (None, [])
    assert found.statement.startswith("No transition seen: ")
    assert why in found.statement


def test_a_scale_without_a_jump_is_named() -> None:
    rises = [rise(1, 1, 5, found=False), rise(2, 31, 35)]
    text = transition_of(at(26, 35), at(32, 32), rises, resolution=1).statement
    assert "31-35 (× 2): within the transition at × 2; no abrupt rise at × 1." in text
    assert text.endswith("Resolution: 1 step.")
    none = transition_of(at(26, 35), at(32, 32), rises[:1], resolution=5).statement
    assert "At no scale does the misaligned act rise abruptly." in none
