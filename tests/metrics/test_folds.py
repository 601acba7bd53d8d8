import numpy as np
import pytest

from afbench.metrics.arrays import Floats, Ints, Weights
from afbench.metrics.folds import Need, fold_cases, resampling_strata

T, F = True, False


def test_organisms_are_resampled_within_kind_and_fold_where_each_has_company() -> None:
    organisms = np.arange(8)
    labels = np.array([T, T, F, F, T, T, F, F])
    folds = np.repeat([0, 1], 4)
    strata = resampling_strata(labels, organisms, folds)
    assert strata.tolist() == [2, 2, 0, 0, 3, 3, 1, 1]


def test_one_organism_left_alone_makes_them_resampled_within_kind_only() -> None:
    organisms = np.arange(4)
    strata = resampling_strata(np.array([T, F, T, F]), organisms, np.array([0, 0, 1, 1]))
    assert strata.tolist() == [1, 0, 1, 0]


def test_organisms_that_span_folds_are_resampled_within_kind() -> None:
    organisms = np.repeat(np.arange(4), 2)
    folds = np.tile([0, 1], 4)
    strata = resampling_strata(organisms < 2, organisms, folds)
    assert strata.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_an_organism_with_both_labels_counts_by_its_majority() -> None:
    organisms = np.array([0, 0, 0, 1, 1, 1])
    labels = np.array([T, T, F, F, F, T])
    assert (
        resampling_strata(labels, organisms, np.zeros(6, dtype=int)).tolist() == [1] * 3 + [0] * 3
    )


def test_small_folds_are_left_out_and_said_so() -> None:
    folds = np.array([0, 0, 0, 0, 1, 1, 1])
    labels = np.array([T, T, F, F, T, F, F])
    cases = fold_cases(labels, np.arange(7), np.arange(7), folds, Need(2, 2), "for a test")
    assert cases.reason is None and cases.used.tolist() == [0, 1, 2, 3]
    assert cases.note == "1 of 2 folds left out: fewer than 2 faking and 2 sincere cases"
    assert cases.clusters == 4


def test_with_no_fold_left_the_reason_is_in_words() -> None:
    labels = np.array([T, F, F])
    cases = fold_cases(labels, np.arange(3), np.arange(3), None, Need(2, 2), "for a test")
    assert cases.reason == (
        "needs 2 faking and 2 sincere cases for a test; there are 1 faking and 2 sincere"
    )


def test_each_fold_counts_once_whatever_its_size() -> None:
    values = np.array([0.0, 0, 0, 0, 1, 1])
    folds = np.array([0, 0, 0, 0, 1, 1])
    labels = np.ones(6, dtype=bool)
    cases = fold_cases(labels, np.arange(6), np.arange(6), folds, Need(1), "for a test")

    def mean(part: Ints, weights: Weights) -> Floats:
        result: Floats = (weights @ values[part]) / weights.sum(axis=1)
        return result

    assert cases.value(mean) == 0.5
    assert cases.replicates(mean, 20, seed=0) == pytest.approx(np.full(20, 0.5))
