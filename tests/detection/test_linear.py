from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from afbench.detection.ensemble import EnsembleProbe
from afbench.detection.linear import (
    LatProbe,
    LdaProbe,
    MeansProbe,
    SubspaceProbe,
    components,
    shrunk_covariance,
)
from afbench.detection.probes import Classifier, LogisticProbe
from afbench.errors import NotEnoughCasesError
from afbench.metrics.detection import auroc

CLASSIFIERS = [MeansProbe(), LdaProbe(), LatProbe(), SubspaceProbe(2), EnsembleProbe()]


def _data(seed: int = 0, n: int = 400, d: int = 6) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A loud first unit that says nothing, and a quiet second one that tells the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    features = rng.normal(size=(n, d))
    features[:, 0] = 10 * features[:, 0] + 3 * features[:, 1]
    features[:, 1] += 2 * labels
    return features, labels


def test_difference_of_means_is_its_formula() -> None:
    features, labels = _data()
    faking, sincere = features[labels].mean(axis=0), features[~labels].mean(axis=0)
    unseen = _data(1)[0]
    expected = (unseen - (faking + sincere) / 2) @ (faking - sincere)
    np.testing.assert_allclose(MeansProbe().fit(features, labels).score(unseen), expected)


def test_lda_is_scikit_learns_direction_for_the_same_shrinkage() -> None:
    features, labels = _data()
    # Theirs shrinks towards the mean variance of each class; classes of one covariance agree.
    features[~labels] = features[~labels] - features[~labels].mean(axis=0)
    features[labels] = np.resize(features[~labels], features[labels].shape)
    features[labels, 1] += 2
    plain = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-9).fit(features, labels)
    mine = LdaProbe(1e-9).fit(features, labels)
    theirs = plain.decision_function(features)
    assert np.corrcoef(mine.score(features), theirs)[0, 1] > 0.9999


def test_lda_looks_past_a_loud_direction_that_the_difference_of_means_follows() -> None:
    features, labels = _data(n=60)
    unseen, truth = _data(1)
    by_lda, by_means = (
        auroc(probe.fit(features, labels).score(unseen), truth)
        for probe in (LdaProbe(), MeansProbe())
    )
    assert by_lda > 0.85 > by_means + 0.1


def test_lda_does_not_hang_on_the_units_of_features() -> None:
    features, labels = _data()
    units = np.array([1e-3, 1e3, 1, 5, 7, 1e2])
    plain = LdaProbe().fit(features, labels).score(features)
    scaled = LdaProbe().fit(features * units, labels).score(features * units)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)


def test_full_shrinkage_ignores_how_features_go_together() -> None:
    features, _ = _data()
    covariance = shrunk_covariance(features - features.mean(axis=0), 1.0)
    np.testing.assert_allclose(covariance, covariance[0, 0] * np.eye(6), atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
def test_lat_finds_the_axis_in_which_pairs_differ_most_and_takes_its_sign_from_labels(
    flip: bool,
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.3
    features = rng.normal(size=(200, 5))
    features[:, 2] += 20 * labels * (-1 if flip else 1)
    scores = LatProbe().fit(features, labels).score(features)
    assert scores[labels].min() > scores[~labels].max()


def test_a_subspace_of_every_component_is_no_subspace() -> None:
    features, labels = _data()
    few, all_of_it = (
        auroc(SubspaceProbe(count, 10.0).fit(features, labels).score(features), labels)
        for count in (1, 6)
    )
    whole = auroc(LogisticProbe(10.0).fit(features, labels).score(features), labels)
    assert few < all_of_it
    assert all_of_it == pytest.approx(whole, abs=0.005)


def test_components_have_one_sign_whatever_the_order_of_the_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)) * [1, 5, 2, 3]
    first, shuffled, negated = (components(given, 2) for given in (rows, rows[::-1], -rows))
    np.testing.assert_allclose(first, shuffled, atol=1e-10)
    np.testing.assert_allclose(first, negated, atol=1e-10)
    assert abs(first[0, 1]) > 0.9
    np.testing.assert_allclose(first @ first.T, np.eye(2), atol=1e-12)


def test_an_ensemble_is_the_mean_of_standardised_log_odds() -> None:
    features, labels = _data()
    layers = np.stack([features, _data(5)[0], -3 * features + 1], axis=1)
    unseen = np.stack([_data(seed)[0] for seed in (7, 8, 9)], axis=1)
    expected = np.zeros(len(unseen))
    for layer in range(3):
        probe = LogisticProbe(0.1).fit(layers[:, layer], labels)
        own = probe.score(layers[:, layer])
        expected += (probe.score(unseen[:, layer]) - own.mean()) / own.std() / 3
    scores = EnsembleProbe(0.1).fit(layers, labels).score(unseen)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda one: type(one).__name__)
def test_a_score_depends_on_no_other_case_and_one_class_is_refused(classifier: Classifier) -> None:
    features, labels = _data()
    if isinstance(classifier, EnsembleProbe):
        features = np.stack([features, features[:, ::-1]], axis=1)
    scores = classifier.fit(features.astype(np.float32), labels).score(features)
    alone = np.concatenate([classifier.score(features[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(alone, scores[:20], rtol=1e-9, atol=1e-10)
    assert scores.dtype == np.float64
    with pytest.raises(NotEnoughCasesError):
        classifier.fit(features, np.ones(len(labels), dtype=bool))
