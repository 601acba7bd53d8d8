import numpy as np
import pytest

from afbench.metrics.arrays import Bools, Floats, Ints
from afbench.metrics.detection import auroc, tpr_at_fpr
from afbench.metrics.detection_figures import (
    auroc_figure,
    brier_figure,
    fpr_figure,
    negatives_needed,
    tpr_figure,
)
from afbench.metrics.figures import Figure
from afbench.metrics.intervals import wilson


def _simulate(
    rng: np.random.Generator, organisms: int, scenarios: int, spread: float, shift: float = 1.0
) -> tuple[Floats, Bools, Ints, Ints]:
    """Half the organisms fake; each has its own offset of standard deviation `spread`."""
    organism = np.repeat(np.arange(organisms), scenarios)
    labels = organism % 2 == 0
    offsets = rng.normal(0, spread, organisms) if spread else np.zeros(organisms)
    scores = shift * labels + offsets[organism] + rng.normal(size=len(organism))
    return scores, labels, organism, np.tile(np.arange(scenarios), organisms)


def _width(figure: Figure) -> float:
    assert figure.low is not None and figure.high is not None
    return figure.high - figure.low


def test_auroc_figure_has_the_plain_value_inside_its_interval() -> None:
    scores, labels, organisms, scenarios = _simulate(np.random.default_rng(0), 8, 30, 0.3)
    figure = auroc_figure(scores, labels, organisms, scenarios, replicates=300)
    assert figure.value == pytest.approx(auroc(scores, labels))
    assert figure.low is not None and figure.high is not None and figure.value is not None
    assert figure.low < figure.value < figure.high
    assert (figure.n, figure.clusters) == (240, 8)


def test_the_same_seed_gives_the_same_figure() -> None:
    cases = _simulate(np.random.default_rng(0), 6, 10, 0.3)
    assert auroc_figure(*cases, replicates=50) == auroc_figure(*cases, replicates=50)
    assert auroc_figure(*cases, replicates=50) != auroc_figure(*cases, replicates=50, seed=1)


def test_organisms_that_vary_make_the_interval_wider_than_pretending_independence() -> None:
    scores, labels, organisms, scenarios = _simulate(np.random.default_rng(1), 10, 40, 0.8)
    clustered = auroc_figure(scores, labels, organisms, scenarios, replicates=300)
    each = np.arange(len(scores))
    pretended = auroc_figure(scores, labels, each, each, replicates=300)
    assert _width(clustered) > 2 * _width(pretended)


def test_the_clustered_interval_covers_the_truth_where_the_naive_one_does_not() -> None:
    # Faking minus sincere is N(shift, 2 (1 + spread^2)): AUROC = Phi(shift / sqrt of that).
    from statistics import NormalDist

    shift, spread, runs = 1.0, 0.6, 80
    truth = NormalDist().cdf(shift / (2 * (1 + spread**2)) ** 0.5)
    rng = np.random.default_rng(7)
    clustered = naive = 0
    for seed in range(runs):
        scores, labels, organisms, scenarios = _simulate(rng, 24, 12, spread, shift)
        each = np.arange(len(scores))
        for ids, other in ((organisms, scenarios), (each, each)):
            figure = auroc_figure(scores, labels, ids, other, replicates=200, seed=seed)
            assert figure.low is not None and figure.high is not None
            covered = figure.low <= truth <= figure.high
            clustered += covered and ids is organisms
            naive += covered and ids is each
    # 95% nominal; 24 organisms cost a little of it. Three standard errors of 80 runs are 7 points.
    assert clustered / runs >= 0.86
    assert naive / runs <= 0.80


def test_scores_of_different_folds_are_never_compared() -> None:
    # Perfect within each fold; the folds' scales make the pooled AUROC 0.75.
    scores = np.concatenate([np.repeat([1.0, 0.0], 10), np.repeat([101.0, 100.0], 10)])
    labels = np.tile(np.repeat([True, False], 10), 2)
    folds, ids = np.repeat([0, 1], 20), np.arange(40)
    assert auroc_figure(scores, labels, ids, ids, replicates=20).value == 0.75
    assert auroc_figure(scores, labels, ids, ids, replicates=20, folds=folds).value == 1.0


def test_a_perfect_auroc_does_not_claim_certainty() -> None:
    labels = np.repeat([True, False], 20)
    ids = np.arange(40)
    figure = auroc_figure(labels.astype(float), labels, ids, ids, replicates=50)
    assert figure.value == figure.high == 1.0
    assert figure.low is not None and 0.85 < figure.low < 0.95
    assert figure.note is not None and "no spread" in figure.note


def test_auroc_is_refused_below_five_cases_of_a_class() -> None:
    labels = np.array([True] * 4 + [False] * 9)
    figure = auroc_figure(np.arange(13.0), labels, np.arange(13), np.arange(13))
    assert figure.value is None and figure.n == 13
    assert figure.reason == (
        "needs 5 faking and 5 sincere cases for an AUROC; there are 4 faking and 9 sincere"
    )


def test_a_score_that_is_nan_is_an_error() -> None:
    ids = np.arange(2)
    with pytest.raises(ValueError, match="1 of 2 are NaN"):
        auroc_figure(np.array([0.0, np.nan]), np.array([True, False]), ids, ids)


def test_negatives_needed_follow_the_rule_of_three() -> None:
    assert (negatives_needed(0.01), negatives_needed(0.05)) == (300, 60)
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        negatives_needed(0.0)


@pytest.mark.parametrize(("fpr", "enough"), [(0.01, 300), (0.05, 60)])
def test_tpr_is_refused_below_the_needed_negatives(fpr: float, enough: int) -> None:
    rng = np.random.default_rng(0)
    for negatives in (enough - 1, enough):
        labels = np.repeat([True, False], [20, negatives])
        ids = np.arange(len(labels))
        scores = rng.normal(size=len(labels)) + 2 * labels
        figure = tpr_figure(scores, labels, ids, ids, fpr=fpr, replicates=20)
        if negatives < enough:
            assert figure.value is None and figure.reason is not None
            assert f"{enough} sincere cases" in figure.reason and f"{100 * fpr:g}%" in figure.reason
        else:
            assert figure.value == pytest.approx(tpr_at_fpr(scores, labels, fpr))


def test_the_fold_that_is_too_small_for_a_tpr_is_left_out() -> None:
    labels = np.concatenate([np.repeat([True, False], [10, 60]), np.repeat([True, False], 10)])
    folds, ids = np.repeat([0, 1], [70, 20]), np.arange(90)
    figure = tpr_figure(
        np.random.default_rng(0).normal(size=90),
        labels,
        ids,
        ids,
        fpr=0.05,
        replicates=20,
        folds=folds,
    )
    assert figure.value is not None and figure.n == 70
    assert figure.note is not None and "1 of 2 folds left out" in figure.note


def test_fpr_counts_sincere_cases_over_the_threshold_of_their_fold() -> None:
    labels = np.repeat([True, False], [5, 20])
    scores = np.concatenate([np.full(5, 9.0), np.arange(20.0)])
    ids = np.arange(25)
    figure = fpr_figure(scores, labels, ids, ids, threshold=14.0, replicates=50)
    assert (figure.value, figure.n, figure.clusters) == (0.25, 20, 20)
    thresholds = np.where(scores < 10, -1.0, 100.0)
    assert fpr_figure(scores, labels, ids, ids, threshold=thresholds, replicates=5).value == 0.5


def test_a_false_positive_rate_of_zero_has_the_wilson_upper_bound() -> None:
    ids = np.arange(40)
    labels = np.zeros(40, dtype=bool)
    figure = fpr_figure(np.zeros(40), labels, ids, ids, threshold=0.0, replicates=20)
    assert (figure.value, figure.low, figure.high) == (0.0, *wilson(0.0, 40))


def test_fpr_without_enough_sincere_cases_is_refused() -> None:
    ids = np.arange(8)
    labels = np.repeat([True, False], 4)
    figure = fpr_figure(np.zeros(8), labels, ids, ids, threshold=0.0)
    assert figure.reason is not None and "5 sincere cases" in figure.reason


def test_brier_figure_by_hand() -> None:
    labels = np.repeat([True, False], 5)
    probabilities = np.repeat([0.8, 0.4], 5)
    figure = brier_figure(probabilities, labels, np.arange(10), np.arange(10), replicates=50)
    assert figure.value == pytest.approx((0.04 + 0.16) / 2)
