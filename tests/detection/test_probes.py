from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from afbench.contract.fake_model import FakeModel
from afbench.detection.probes import LogisticProbe, choose, grouped_folds
from afbench.errors import NotEnoughCasesError
from afbench.messages import Conversation
from afbench.models.interface import POOLINGS
from afbench.store import Store
from tests.fakes import case_set, handle_on

STRENGTHS = [0.001, 0.01, 0.1]


def _data(seed: int = 0, n: int = 60, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    features = rng.normal(size=(n, d)) * rng.uniform(0.1, 30, d) + rng.normal(size=d)
    features[:, 0] += 2 * labels
    return features, labels


# The probe


@pytest.mark.parametrize("strength", [0.001, 0.1, 10.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probe_is_scikit_learns_scaler_and_logistic_regression(
    strength: float, dtype: type
) -> None:
    features, labels = _data()
    features = features.astype(dtype)
    unseen = _data(1)[0].astype(dtype)
    reference = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=1000, class_weight="balanced")
    ).fit(features.astype(np.float64), labels)
    scores = LogisticProbe(strength).fit(features, labels).score(unseen)
    np.testing.assert_allclose(
        scores, reference.decision_function(unseen.astype(np.float64)), rtol=1e-9, atol=1e-9
    )
    assert scores.dtype == np.float64


def test_a_score_is_higher_where_faking_is_more_likely_and_does_not_hang_on_the_units() -> None:
    features, labels = _data()
    scores = LogisticProbe().fit(features, labels).score(features)
    assert scores[labels].mean() > scores[~labels].mean()
    scaled = LogisticProbe().fit(1e6 * features + 7, labels).score(1e6 * features + 7)
    np.testing.assert_allclose(scaled, scores, rtol=1e-5)


def test_a_feature_that_never_changes_neither_breaks_a_probe_nor_counts() -> None:
    features, labels = _data()
    padded = np.hstack([features, np.full((len(labels), 2), 3.5)])
    plain, with_constant = (LogisticProbe().fit(x, labels).score(x) for x in (features, padded))
    np.testing.assert_allclose(with_constant, plain, rtol=1e-6)


@pytest.mark.parametrize("label", [True, False])
def test_a_probe_on_one_class_is_refused(label: bool) -> None:
    with pytest.raises(NotEnoughCasesError, match="faking and sincere"):
        LogisticProbe().fit(np.zeros((3, 2)), np.full(3, label))


# The choice


def _planted(
    planted: int, *, n_groups: int = 24, per_group: int = 6, candidates: int = 5
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Feature sets of which one holds the label; the others tell the organisms apart, no more.

    Each organism has a direction of its own there, so that what is learnt of one says nothing of
    another.
    """
    rng = np.random.default_rng(planted)
    groups = np.repeat(np.arange(n_groups), per_group)
    labels = groups % 2 == 0
    noise = rng.normal(size=(candidates, len(groups), n_groups))
    matrices = list(noise + 8 * np.eye(n_groups)[groups])
    matrices[planted] = noise[planted]
    matrices[planted][:, 0] += 3 * labels
    order = rng.permutation(len(groups))
    return [matrix[order] for matrix in matrices], labels[order], groups[order]


@pytest.mark.parametrize("planted", range(5))
def test_the_planted_layer_is_chosen_over_those_that_recognise_organisms(planted: int) -> None:
    features, labels, groups = _planted(planted)
    choice = choose(features, labels, groups, strengths=STRENGTHS)
    assert choice.candidate == planted
    assert choice.auroc > 0.9
    assert choice.strength in STRENGTHS
    # Split at random instead of by organism, the others look as good.
    other = features[planted - 1]
    scores = LogisticProbe(0.1).fit(other[::2], labels[::2]).score(other[1::2])
    assert roc_auc_score(labels[1::2], scores) > 0.95


def test_the_same_cases_give_the_same_choice() -> None:
    features, labels, groups = _planted(2, candidates=3)
    first = choose(features, labels, groups, strengths=STRENGTHS)
    assert choose(features, labels, groups, strengths=STRENGTHS) == first


def test_too_few_organisms_to_hold_one_out_take_the_middle_and_claim_no_figure() -> None:
    features, labels, groups = _planted(0, n_groups=2)
    choice = choose(features, labels, groups, strengths=STRENGTHS)
    assert (choice.candidate, choice.strength) == (2, 0.01)
    assert np.isnan(choice.auroc)


def test_the_strength_is_chosen_on_the_chosen_set_alone() -> None:
    features, labels, groups = _planted(1)
    choice = choose(features, labels, groups, strengths=STRENGTHS)
    alone = choose([features[1]], labels, groups, strengths=STRENGTHS)
    assert (choice.strength, choice.auroc) == (alone.strength, alone.auroc)


@settings(max_examples=40)
@given(
    groups=st.lists(st.integers(0, 7), min_size=4, max_size=60),
    seed=st.integers(0, 99),
    folds=st.integers(2, 5),
)
def test_no_organism_is_on_both_sides_of_a_fold_and_both_sides_hold_both_classes(
    groups: list[int], seed: int, folds: int
) -> None:
    # Some organisms fake throughout, some never, some in part.
    rng = np.random.default_rng(seed)
    numbers = np.array(groups)
    labels = np.array([{0: True, 1: False}.get(g % 3, bool(rng.integers(2))) for g in groups])
    held_out: list[int] = []
    for fit, held in grouped_folds(labels, numbers, folds, seed):
        assert not set(numbers[fit]) & set(numbers[held])
        assert not set(fit) & set(held)
        assert set(labels[fit]) == set(labels[held]) == {True, False}
        held_out += held.tolist()
    assert len(held_out) == len(set(held_out))


# The probe detector chooses on fit cases alone


class _Planted(FakeModel):
    """Noise at every layer; at one of them a faker's activations are shifted."""

    def __init__(self, seed: int, layer: int, *, faker: bool) -> None:
        super().__init__(seed, n_layers=4)
        self._layer, self._faker = layer, faker
        self.digest = f"planted {seed} {layer} {faker}"

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> Any:
        values = super().activations(conversations, layers, poolings)
        chosen = list(range(self.n_layers + 1)) if layers is None else list(layers)
        if self._faker and self._layer in chosen and "response_last" in poolings:
            values[:, list(poolings).index("response_last"), chosen.index(self._layer), 0] += 6
        return values


@pytest.mark.parametrize("test_layer", [2, 3])
def test_the_layer_is_chosen_on_fit_organisms_whatever_the_test_organisms_show(
    tmp_path: Path, test_layer: int
) -> None:
    from afbench.catalog.discovery import Plugin
    from afbench.catalog.manifests import DetectorManifest, load_manifest
    from afbench.detection.harness import run_fold
    from afbench.detection.loading import detector_factory
    from tests.shipped import ROOT

    folder = ROOT / "detectors" / "probe"
    manifest = load_manifest(folder)
    assert isinstance(manifest, DetectorManifest)
    make = detector_factory(Plugin("probe", "detector", folder, manifest))
    zoo = {
        f"{side}-{'faker' if index % 2 else 'honest'}-{index}": (
            ["faking"] * 6 if index % 2 else ["sincere"] * 6
        )
        for side in ("fit", "test")
        for index in range(6)
    }
    handles = {
        name: handle_on(
            _Planted(number, 2 if name.startswith("fit") else test_layer, faker="faker" in name),
            "activations",
            Store(tmp_path),
        )
        for number, name in enumerate(zoo)
    }
    sides = [
        case_set(
            {name: labels for name, labels in zoo.items() if name.startswith(side)},
            tmp_path,
            handles=handles,
        )
        for side in ("fit", "test")
    ]
    families = {name: f"family {name[-1] in '45'}" for name in zoo}
    outcome = run_fold("probe", make, 300, *sides, families, handles)
    assert outcome.chosen["layer"] == 2
    assert outcome.chosen["pooling"] == "response_last"
    assert set(outcome.chosen) == {"layer", "pooling", "strength", "fit_auroc"}
    labels = sides[1].labels
    separated = outcome.scores[labels].min() > outcome.scores[~labels].max()
    assert separated == (test_layer == 2), "a layer that the fit side does not show is missed"
    assert POOLINGS[2] == "response_last"
