import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from afbench.metrics.arrays import Bools, Floats, Ints
from afbench.metrics.comparison import (
    compare_auroc,
    excess_over_best,
    excess_over_floor,
    gap_recovery,
    spearman_replicates,
    two_sided_p,
    white_box_uplift,
)
from afbench.metrics.detection import auroc


def _cases(seed: int = 0, organisms: int = 10) -> tuple[Floats, Bools, Ints, Ints]:
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(organisms), 20)
    labels = ids % 2 == 0
    scores = labels + 0.5 * rng.normal(size=organisms)[ids] + rng.normal(size=len(ids))
    return scores, labels, ids, np.tile(np.arange(20), organisms)


def test_a_detector_ties_with_itself_and_with_a_rescaled_copy() -> None:
    scores, labels, *ids = _cases()
    for copy in (scores, 3 * scores + 1):
        same = compare_auroc(scores, copy, labels, *ids, replicates=100)
        assert (same.difference.value, same.difference.low, same.difference.high) == (0, 0, 0)
        assert same.p_value == 1.0 and same.tied


def test_a_clearly_better_detector_is_not_tied() -> None:
    scores, labels, *ids = _cases()
    noise = np.random.default_rng(5).normal(size=len(scores))
    result = compare_auroc(scores + 4 * labels, noise, labels, *ids, replicates=400)
    assert result.difference.low is not None and result.difference.low > 0
    assert result.p_value is not None and result.p_value < 0.01 and not result.tied
    expected = auroc(scores + 4 * labels, labels) - auroc(noise, labels)
    assert result.difference.value == pytest.approx(expected)


def test_swapping_the_detectors_flips_the_difference() -> None:
    scores, labels, *ids = _cases()
    other = scores + np.random.default_rng(2).normal(size=len(scores))
    forth = compare_auroc(scores, other, labels, *ids, replicates=200)
    back = compare_auroc(other, scores, labels, *ids, replicates=200)
    assert forth.difference.low is not None and back.difference.high is not None
    assert forth.difference.low == pytest.approx(-back.difference.high)
    assert forth.p_value == back.p_value


def test_pairing_makes_the_interval_narrower_than_that_of_one_auroc() -> None:
    from afbench.metrics.detection_figures import auroc_figure

    scores, labels, *ids = _cases()
    nearly = scores + 0.1 * np.random.default_rng(3).normal(size=len(scores))
    paired = compare_auroc(scores, nearly, labels, *ids, replicates=300).difference
    alone = auroc_figure(scores, labels, *ids, replicates=300)
    assert paired.low is not None and paired.high is not None
    assert alone.low is not None and alone.high is not None
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_a_refused_comparison_is_a_tie_with_a_reason() -> None:
    ids = np.arange(6)
    labels = np.repeat([True, False], 3)
    result = compare_auroc(np.arange(6.0), np.zeros(6), labels, ids, ids)
    assert result.tied and result.p_value is None and result.difference.reason is not None


def test_p_value_by_hand() -> None:
    assert two_sided_p(np.array([1.0] * 98 + [-1.0])) == 2 * 2 / 100
    assert two_sided_p(np.ones(99)) == 2 * 1 / 100
    assert two_sided_p(np.zeros(9)) == 1.0
    assert two_sided_p(np.array([np.nan, 1.0, -1.0])) == 1.0


def test_the_best_floor_is_chosen_by_its_auroc_and_named() -> None:
    scores, labels, *ids = _cases()
    floors = {
        "length": np.zeros(len(scores)),
        "bag-of-words": scores + labels,
        "layer-0": -scores,
    }
    result = excess_over_floor(scores, floors, labels, *ids, replicates=100)
    assert result.rival == "bag-of-words"
    expected = auroc(scores, labels) - auroc(scores + labels, labels)
    assert result.difference.value == pytest.approx(expected) and expected < 0


def test_of_equal_floors_the_first_by_name_is_taken_and_uplift_works_alike() -> None:
    scores, labels, *ids = _cases()
    rivals = {"b": scores, "a": 2 * scores}
    assert white_box_uplift(scores, rivals, labels, *ids, replicates=20).rival == "a"
    nothing = excess_over_best(scores, {}, labels, *ids)
    assert nothing.difference.reason == "there is nothing to compare with" and nothing.tied


def test_comparison_respects_folds() -> None:
    labels = np.tile(np.repeat([True, False], 10), 2)
    folds, ids = np.repeat([0, 1], 20), np.arange(40)
    perfect_within = labels + 100.0 * folds
    result = compare_auroc(
        perfect_within, labels.astype(float), labels, ids, ids, replicates=20, folds=folds
    )
    assert result.difference.value == 0.0


def test_gap_recovery_ranks_organisms_by_their_gap() -> None:
    organisms = np.repeat(np.arange(7), 3)
    gaps = {int(o): o / 10 for o in range(7)}
    scores = np.array([0.0, 1, 2, 3, 5, 4, 6])[organisms]
    figure = gap_recovery(scores, organisms, gaps, replicates=300)
    assert figure.value == pytest.approx(1 - 6 * 2 / (7 * 48))  # two neighbours swapped
    assert (figure.n, figure.clusters) == (7, 7)
    assert figure.low is not None and figure.high is not None and figure.low < figure.high


def test_a_perfect_gap_recovery_has_no_interval_that_claims_certainty() -> None:
    organisms = np.arange(6)
    figure = gap_recovery(organisms.astype(float), organisms, {o: o / 6 for o in range(6)})
    assert figure.value == pytest.approx(1.0) and figure.low is None
    assert figure.note is not None and "same order" in figure.note


def test_gap_recovery_is_refused_below_five_organisms_and_without_variation() -> None:
    few = gap_recovery(np.arange(6.0), np.arange(6), {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4})
    assert few.value is None and few.reason == "needs 5 organisms; there are 4"
    flat = gap_recovery(np.zeros(6), np.arange(6), {o: o / 6 for o in range(6)})
    assert flat.value is None and flat.reason is not None and "all equal" in flat.reason


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12),
    st.integers(0, 1000),
)
def test_weighted_spearman_is_scipys_on_copies(pairs: list[tuple[int, int]], seed: int) -> None:
    x, y = np.array(pairs, dtype=float).T
    weights = np.random.default_rng(seed).integers(0, 4, size=len(x))
    copies = np.repeat(np.arange(len(x)), weights)
    if len(np.unique(x[copies])) < 2 or len(np.unique(y[copies])) < 2:
        return
    ours = spearman_replicates(x, y, weights[None].astype(float))[0]
    assert ours == pytest.approx(spearmanr(x[copies], y[copies]).statistic)
