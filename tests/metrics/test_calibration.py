import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.errors import NotEnoughCasesError
from afbench.metrics.calibration import fit_platt, threshold_at_fpr

T, F = True, False


def test_platt_equals_a_hand_solved_two_point_fit() -> None:
    # With two distinct scores the fit passes through the mean smoothed target at each.
    scores = np.repeat([1.0, 3.0], 10)
    labels = np.array([T] * 2 + [F] * 8 + [T] * 9 + [F])
    high, low = 12 / 13, 1 / 11
    at_one, at_three = 0.2 * high + 0.8 * low, 0.9 * high + 0.1 * low
    platt = fit_platt(scores, labels)
    assert platt.probabilities(np.array([1.0, 3.0])) == pytest.approx([at_one, at_three], abs=1e-6)


def test_separable_scores_get_finite_probabilities_that_are_sure_within_the_smoothing() -> None:
    labels = np.repeat([F, T], 8)
    platt = fit_platt(labels.astype(float), labels)
    assert platt.probabilities(np.array([0.0, 1.0])) == pytest.approx([0.1, 0.9], abs=1e-6)


def test_platt_recovers_a_logistic_truth() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(2 * scores - 1)))
    platt = fit_platt(scores, labels)
    assert (platt.slope, platt.intercept) == pytest.approx((2, -1), abs=0.1)


def test_probabilities_do_not_depend_on_the_scale_of_the_scores() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(200) < 0.4
    scores = rng.normal(size=200) + labels
    plain = fit_platt(scores, labels).probabilities(scores)
    rescaled = 1e6 * scores - 3e5
    assert fit_platt(rescaled, labels).probabilities(rescaled) == pytest.approx(plain, abs=1e-5)


def test_calibration_never_reverses_a_score() -> None:
    labels = np.repeat([T, F], [6, 18])
    platt = fit_platt(np.where(labels, -1.0, 1.0), labels)
    assert platt.slope == 0.0
    base_rate = (6 * 7 / 8 + 18 / 20) / 24
    assert platt.probabilities(np.array([-5.0, 5.0])) == pytest.approx([base_rate] * 2)


def test_constant_scores_calibrate_to_the_base_rate() -> None:
    labels = np.repeat([T, F], 10)
    assert fit_platt(np.full(20, 3.3), labels).probabilities(np.array([3.3])) == pytest.approx(0.5)


def test_huge_scores_do_not_overflow() -> None:
    labels = np.repeat([F, T], 8)
    with np.errstate(all="raise", under="ignore"):
        values = fit_platt(labels.astype(float), labels).probabilities(np.array([-1e9, 1e9]))
    assert values.tolist() == [0.0, 1.0]


def test_calibration_needs_both_classes_and_finite_scores() -> None:
    with pytest.raises(NotEnoughCasesError, match="3 faking and 0 sincere"):
        fit_platt(np.arange(3.0), np.array([T, T, T]))
    with pytest.raises(ValueError, match="finite"):
        fit_platt(np.array([0.0, math.inf]), np.array([T, F]))


def test_threshold_by_hand() -> None:
    scores = np.arange(1.0, 101)  # 100 sincere cases
    assert threshold_at_fpr(scores, 0.05) == 95.0  # 96..100 are flagged
    assert threshold_at_fpr(scores, 0.049) == 96.0
    assert threshold_at_fpr(scores, 0.0) == 100.0
    assert threshold_at_fpr(scores, 1.0) == -math.inf
    assert threshold_at_fpr(np.arange(300.0), 0.01) == 296.0


def test_threshold_over_ties_stays_at_or_below_the_rate() -> None:
    assert threshold_at_fpr(np.array([0.0, 1, 1, 1]), 0.5) == 1.0


def test_threshold_without_scores_is_an_error() -> None:
    with pytest.raises(NotEnoughCasesError):
        threshold_at_fpr(np.zeros(0), 0.05)


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.floats(0, 0.99))
def test_threshold_is_the_smallest_that_keeps_the_rate(values: list[int], fpr: float) -> None:
    scores = np.array(values, dtype=float)
    threshold = threshold_at_fpr(scores, fpr)
    assert np.mean(scores > threshold) <= fpr + 1e-9
    assert np.mean(scores > np.nextafter(threshold, -math.inf)) > fpr
