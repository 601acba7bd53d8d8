from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from afbench.metrics import detection
from afbench.metrics.arrays import Bools, Floats
from afbench.metrics.detection import (
    auroc,
    auroc_replicates,
    brier,
    fpr_at_threshold,
    mean_replicates,
    tpr_at_fpr,
    tpr_at_fpr_replicates,
)

T, F = True, False


@st.composite
def scored_cases(draw: st.DrawFn) -> tuple[Floats, Bools]:
    """Whole-number scores, so that ties are common, and both classes present."""
    labels = [T, F, *draw(st.lists(st.booleans(), max_size=30))]
    n = len(labels)
    scores = draw(st.lists(st.integers(-6, 6), min_size=n, max_size=n))
    return np.array(scores, dtype=float), np.array(labels)


def _random(n: int, replicates: int, seed: int) -> tuple[Floats, Bools, Floats]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    scores = np.round(rng.normal(size=n) + labels, 1)
    return scores, labels, rng.integers(0, 4, size=(replicates, n)).astype(float)


def test_auroc_by_hand() -> None:
    # Faking 3 and 1 against sincere 2 and 1: wins 1 + 1 + 0 + 1/2 of 4.
    assert auroc(np.array([3.0, 1, 2, 1]), np.array([T, T, F, F])) == 2.5 / 4


def test_auroc_of_constant_scores_is_one_half() -> None:
    assert auroc(np.zeros(5), np.array([T, T, F, F, F])) == 0.5


def test_auroc_without_a_class_is_undefined() -> None:
    assert np.isnan(auroc(np.arange(3.0), np.array([T, T, T])))


@settings(deadline=None, max_examples=60)
@given(scored_cases())
def test_auroc_is_unchanged_by_a_rising_transform_and_mirrored_by_a_sign_flip(
    cases: tuple[Floats, Bools],
) -> None:
    scores, labels = cases
    value = auroc(scores, labels)
    assert 0 <= value <= 1
    assert auroc(np.exp(scores / 3) * 5 + 2, labels) == pytest.approx(value)
    assert auroc(-scores, labels) == pytest.approx(1 - value)
    assert auroc(scores, ~labels) == pytest.approx(1 - value)


@settings(deadline=None, max_examples=60)
@given(scored_cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_changes_nothing(
    cases: tuple[Floats, Bools], random: Random
) -> None:
    scores, labels = cases
    order = list(range(len(scores)))
    random.shuffle(order)
    assert auroc(scores[order], labels[order]) == pytest.approx(auroc(scores, labels))
    for fpr in (0.0, 0.2, 0.5):
        assert tpr_at_fpr(scores[order], labels[order], fpr) == tpr_at_fpr(scores, labels, fpr)


@settings(deadline=None, max_examples=60)
@given(scored_cases())
def test_unit_weights_give_the_unweighted_auroc_which_is_scikit_learns(
    cases: tuple[Floats, Bools],
) -> None:
    scores, labels = cases
    value = auroc_replicates(scores, labels, np.ones((2, len(scores)), dtype=np.float32))
    assert value == pytest.approx([auroc(scores, labels)] * 2, abs=1e-12)
    assert value[0] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_replicates_equal_scikit_learn_with_sample_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "_CELLS_PER_CHUNK", 1000)  # several chunks
    scores, labels, weights = _random(150, 40, seed=0)
    ours = auroc_replicates(scores, labels, weights.astype(np.float32))
    theirs = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_whole_weights_act_as_copies_of_the_cases() -> None:
    scores, labels, weights = _random(40, 5, seed=1)
    for row in weights:
        copies = np.repeat(np.arange(40), row.astype(int))
        weighted = auroc_replicates(scores, labels, row[None].astype(np.float32))[0]
        assert weighted == pytest.approx(auroc(scores[copies], labels[copies]))
        assert tpr_at_fpr(scores, labels, 0.2, weights=row) == pytest.approx(
            tpr_at_fpr(scores[copies], labels[copies], 0.2)
        )


def test_a_replicate_without_one_class_is_undefined() -> None:
    labels, scores = np.array([T, T, F]), np.array([1.0, 2.0, 0.0])
    weights = np.array([[1, 1, 0], [0, 0, 2], [1, 0, 1]], dtype=np.float32)
    assert np.isnan(auroc_replicates(scores, labels, weights)).tolist() == [T, T, F]
    assert np.isnan(tpr_at_fpr_replicates(scores, labels, weights, 0.1)).tolist() == [T, T, F]


def test_tpr_at_fpr_by_hand() -> None:
    scores = np.array([0.9, 0.7, 0.5, 0.3, 0.8, 0.4, 0.2, 0.1])
    labels = np.array([T, T, T, T, F, F, F, F])
    assert tpr_at_fpr(scores, labels, 0.0) == 0.25  # threshold 0.8
    assert tpr_at_fpr(scores, labels, 0.24) == 0.25  # one of four is already too many
    assert tpr_at_fpr(scores, labels, 0.25) == 0.75  # threshold 0.4
    assert tpr_at_fpr(scores, labels, 0.5) == 1.0
    assert tpr_at_fpr(scores, labels, 1.0) == 1.0


def test_tpr_at_fpr_gives_nothing_for_a_tie_it_cannot_split() -> None:
    # Half of each class shares the top score: flagging it costs 50%, and there is no half-way.
    scores = np.array([1.0, 0, 1.0, 0])
    labels = np.array([T, T, F, F])
    assert tpr_at_fpr(scores, labels, 0.49) == 0.0
    assert tpr_at_fpr(scores, labels, 0.5) == 0.5


def test_three_of_three_hundred_is_one_percent_in_floating_point() -> None:
    labels = np.repeat([T, F], [1, 300])
    scores = np.concatenate([[297.5], np.arange(1.0, 301)])  # above it: 298, 299, 300
    assert tpr_at_fpr(scores, labels, 0.01) == 1.0
    assert tpr_at_fpr(scores, labels, 0.0099) == 0.0


@settings(deadline=None, max_examples=60)
@given(scored_cases(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_tpr_at_fpr_is_the_best_point_of_scikit_learns_curve(
    cases: tuple[Floats, Bools], fpr: float
) -> None:
    scores, labels = cases
    rates, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert tpr_at_fpr(scores, labels, fpr) == pytest.approx(hits[rates <= fpr + 1e-12].max())


def test_tpr_replicates_choose_their_own_threshold() -> None:
    scores, labels, weights = _random(80, 12, seed=2)
    together = tpr_at_fpr_replicates(scores, labels, weights, 0.1)
    one_by_one = [tpr_at_fpr(scores, labels, 0.1, weights=row) for row in weights]
    assert together == pytest.approx(one_by_one)


def test_fpr_counts_only_scores_strictly_over_the_threshold() -> None:
    scores = np.array([0.1, 0.5, 0.5, 0.9])
    assert fpr_at_threshold(scores, 0.5) == 0.25
    assert fpr_at_threshold(scores, np.array([0.0, 0.4, 0.6, 1.0])) == 0.5
    assert fpr_at_threshold(scores, 0.5, weights=np.array([1.0, 0, 0, 3])) == 0.75


def test_brier_by_hand_and_its_range() -> None:
    assert brier(np.array([1.0, 0.0]), np.array([T, F])) == 0.0
    assert brier(np.array([0.5, 0.5]), np.array([T, F])) == 0.25
    assert brier(np.array([0.8, 0.4]), np.array([T, F])) == pytest.approx((0.04 + 0.16) / 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        brier(np.array([1.2, 0.0]), np.array([T, F]))


def test_weighted_mean_by_hand() -> None:
    weights = np.array([[1.0, 3], [0, 0]])
    assert mean_replicates(np.array([0.0, 1.0]), weights)[0] == 0.75
    assert np.isnan(mean_replicates(np.array([0.0, 1.0]), weights)[1])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        auroc(np.zeros(3), np.array([T, F]))
