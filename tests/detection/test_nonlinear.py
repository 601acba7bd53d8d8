from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from afbench.detection.anomaly import ForestDistance, MahalanobisDistance
from afbench.detection.linear import components, location_and_scale
from afbench.detection.nonlinear import MlpProbe, QuadraticProbe
from afbench.detection.probes import Classifier, LogisticProbe
from afbench.metrics.detection import auroc


def _crossed(seed: int, n: int = 300) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Two units, and a label that is the sign of their product: no line tells it."""
    features = np.random.default_rng(seed).normal(size=(n, 4))
    return features, features[:, 0] * features[:, 1] > 0


@pytest.mark.parametrize("classifier", [MlpProbe(0.1), QuadraticProbe(1.0, 4)])
def test_what_no_line_tells_is_told(classifier: Classifier) -> None:
    features, labels = _crossed(0)
    unseen, truth = _crossed(1)
    assert auroc(classifier.fit(features, labels).score(unseen), truth) > 0.9
    assert auroc(LogisticProbe().fit(features, labels).score(unseen), truth) < 0.65


@pytest.mark.parametrize(
    "classifier",
    [MlpProbe(steps=20), QuadraticProbe(), MahalanobisDistance(), ForestDistance(trees=10)],
)
def test_a_fit_is_repeated_bit_by_bit_and_scores_depend_on_no_other_case(
    classifier: Classifier,
) -> None:
    features, labels = _crossed(0)
    scores = classifier.fit(features, labels).score(features)
    np.testing.assert_array_equal(classifier.fit(features, labels).score(features), scores)
    alone = np.concatenate([classifier.score(features[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(alone, scores[:20], rtol=1e-9, atol=1e-10)


def test_another_seed_gives_another_network() -> None:
    features, labels = _crossed(0)
    first, second = (
        MlpProbe(steps=5, seed=seed).fit(features, labels).score(features) for seed in (0, 1)
    )
    assert not np.allclose(first, second)


# Anomalies


def test_mahalanobis_is_its_formula_over_sincere_cases() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 3)) + 5
    labels = np.zeros(5000, dtype=bool)
    labels[:10] = True
    sincere = features[10:]
    inverse = np.linalg.inv(np.cov(sincere.T, bias=True))
    centred = features - sincere.mean(axis=0)
    expected = np.sqrt(np.einsum("nd,de,ne->n", centred, inverse, centred))
    scores = MahalanobisDistance(1e-9).fit(features, labels).score(features)
    np.testing.assert_allclose(np.expm1(scores), expected, rtol=1e-5)


@pytest.mark.parametrize("classifier", [MahalanobisDistance(), ForestDistance(trees=20)])
def test_faking_cases_take_no_part_in_what_counts_as_normal(classifier: Classifier) -> None:
    features, labels = _crossed(0)
    before = classifier.fit(features, labels).score(features[~labels])
    moved = np.where(labels[:, None], 100 * features + 7, features)
    after = classifier.fit(moved, labels).score(features[~labels])
    np.testing.assert_array_equal(before, after)
    far = np.full((1, 4), 50.0)
    assert classifier.score(far)[0] > before.max()


@pytest.mark.parametrize("sincere", [1, 2, 3, 40, 500])
def test_a_forest_of_arrays_says_what_scikit_learns_forest_says(sincere: int) -> None:
    rng = np.random.default_rng(sincere)
    features = rng.normal(size=(sincere + 1, 6))
    labels = np.arange(sincere + 1) == sincere
    mine = ForestDistance(4, trees=20, samples=64, seed=3).fit(features, labels)
    mean, scale = location_and_scale(features[~labels])
    basis = components((features[~labels] - mean) / scale, 4) / scale
    inside = ((features - mean) @ basis.T).astype(np.float32)
    forest = IsolationForest(n_estimators=20, max_samples=min(64, sincere), random_state=3)
    forest.fit(inside[~labels])
    if sincere == 1:
        np.testing.assert_array_equal(mine.score(features), 0.5)
        return
    np.testing.assert_allclose(mine.score(features), -forest.score_samples(inside), rtol=1e-9)
