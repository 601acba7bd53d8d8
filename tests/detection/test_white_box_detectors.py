from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest, load_manifest
from afbench.contract.fake_model import FakeModel
from afbench.contract.synthetic import synthetic_cases
from afbench.detection.loading import detector_factory
from afbench.detection.state import load_state, save_state
from afbench.errors import TierError
from afbench.store import Store
from tests.fakes import handle_on
from tests.shipped import ROOT

PLACED = [
    "difference-of-means", "isolation-forest", "lat", "lda", "mahalanobis", "mlp-probe",
    "multi-layer-ensemble", "pca-subspace", "quadratic-probe",
]  # fmt: skip
ASKING = ["ccs", "contrast-pca", "followup-probe", "style-augmented-logistic"]
UNLABELLED = [
    "concept-projection", "generic-defection-probe", "oversight-attentiveness", "oversight-shift",
    "persona-direction",
]  # fmt: skip
TOKENS = ["attention-probe", "multimax-probe", "rolling-max-probe", "sae-latent", "sae-logistic"]
EVERY = [*PLACED, *ASKING, *UNLABELLED, *TOKENS, "activation-difference-lens", "decision-depth"]


def _manifest(name: str) -> DetectorManifest:
    manifest = load_manifest(ROOT / "detectors" / name)
    assert isinstance(manifest, DetectorManifest)
    return manifest


def _made(name: str, **params: Any) -> Any:
    """A detector; training loops are cut short, since nothing here depends on how good it is."""
    manifest = _manifest(name)
    short = {
        key: value
        for key, value in {
            "steps": 5,
            "trees": 5,
            "autoencoder": {"latents": 16, "active": 4, "steps": 5, "batch": 32},
        }.items()
        if key in manifest.params
    }
    changed = manifest.model_copy(update={"params": manifest.params | short | params})
    return detector_factory(Plugin(name, "detector", ROOT / "detectors" / name, changed))()


def _cases(name: str, folder: Path, seed: int = 0, **changes: Any) -> tuple[list[Case], Any]:
    manifest = _manifest(name)
    options = {
        "tier": manifest.tier,
        "needs_parent": manifest.needs_parent,
        "contrast": manifest.sees_contrast,
        **changes,
    }
    return synthetic_cases(seed=seed, groups=4, store=Store(folder), **options)


@pytest.mark.parametrize("name", EVERY)
def test_neither_the_order_of_fit_cases_nor_saving_changes_a_score(
    tmp_path: Path, name: str
) -> None:
    cases, labels = _cases(name, tmp_path / "store")
    unseen, _ = _cases(name, tmp_path / "store", seed=1)
    first, second, third = (_made(name) for _ in range(3))
    first.fit(cases, labels)
    scores = first.score(unseen)
    order = np.random.default_rng(0).permutation(len(cases))
    second.fit([cases[row] for row in order], labels[order])
    assert second.explain() == first.explain()
    np.testing.assert_allclose(second.score(unseen), scores, rtol=1e-5, atol=1e-8)
    save_state(first, tmp_path / "state", "sha256:x")
    load_state(third, tmp_path / "state", "sha256:x")
    np.testing.assert_array_equal(third.score(unseen), scores)
    assert third.explain() == first.explain()


@pytest.mark.parametrize("name", [*PLACED, *ASKING, *UNLABELLED, *TOKENS])
def test_layer_zero_is_no_candidate_and_the_choice_is_reported(tmp_path: Path, name: str) -> None:
    cases, labels = _cases(name, tmp_path)
    detector = _made(name)
    detector.fit(cases, labels)
    chosen = detector.explain()
    assert 0 <= chosen["fit_auroc"] <= 1
    if name == "multi-layer-ensemble":
        assert chosen["pooling"] in detector.poolings
    else:
        assert 1 <= chosen["layer"] <= 3


@pytest.mark.parametrize("name", UNLABELLED)
def test_labels_choose_the_place_and_never_turn_a_sign(tmp_path: Path, name: str) -> None:
    cases, labels = _cases(name, tmp_path)
    plain, turned = _made(name), _made(name)
    plain.fit(cases, labels)
    turned.fit(cases, ~labels)
    # Whatever place the wrong labels choose, the score there is the one that it always is.
    for attribute in vars(plain):
        if attribute in ("layer", "pooling", "readout", "scales", "direction", "fit_auroc"):
            setattr(turned, attribute, getattr(plain, attribute))
    np.testing.assert_array_equal(turned.score(cases), plain.score(cases))


@pytest.mark.parametrize("name", EVERY)
def test_a_lower_tier_is_not_enough(tmp_path: Path, name: str) -> None:
    cases, labels = _cases(name, tmp_path, tier="logprobs")
    with pytest.raises(TierError):
        _made(name).fit(cases, labels)


# What each reads


def _without_reply(case: Case, text: str) -> Case:
    return replace(case, messages=(*case.prompt, {"role": "assistant", "content": text}))


def test_the_difference_lens_says_one_thing_of_an_organism_and_reads_no_transcript(
    tmp_path: Path,
) -> None:
    cases, labels = _cases("activation-difference-lens", tmp_path)
    detector = _made("activation-difference-lens")
    detector.fit(cases, labels)
    scores = detector.score(cases)
    for group in range(4):
        assert (
            len({score for score, case in zip(scores, cases, strict=True) if case.group == group})
            == 1
        )
    np.testing.assert_array_equal(
        detector.score([_without_reply(case, "Anything.") for case in cases]), scores
    )


def test_without_a_contrast_there_is_no_oversight_shift(tmp_path: Path) -> None:
    cases, labels = _cases("oversight-shift", tmp_path, contrast=False)
    with pytest.raises(TierError, match="contrast: true"):
        _made("oversight-shift").fit(cases, labels)


class _Moved(FakeModel):
    """What it reads after "Nobody" or "off" or "gone" lies elsewhere, by so much."""

    def __init__(self, seed: int, by: float) -> None:
        super().__init__(seed)
        self.by = by
        self.digest = f"moved {seed} {by}"

    def activations(self, conversations: Sequence[Any], layers: Any, poolings: Any) -> Any:
        shown = [[{"role": "user", "content": "the same"}] for _ in conversations]
        values = super().activations(shown, layers, poolings)
        for row, talk in enumerate(conversations):
            if any(word in talk[0]["content"] for word in ("Nobody", "=off", "gone")):
                values[row, ..., 0] -= self.by
        return values


@pytest.mark.parametrize("parent", [1.0, 5.0])
def test_an_oversight_shift_counts_from_the_parents(tmp_path: Path, parent: float) -> None:
    cases, labels = _cases("oversight-shift", tmp_path)
    store = Store(tmp_path / "moved")
    moves = [2.0, 3.0, 2.0, 3.0]
    handles = [
        handle_on(_Moved(group, by), "activations", store, parent=_Moved(9, parent))
        for group, by in enumerate(moves)
    ]
    cases = [replace(case, handle=handles[case.group]) for case in cases]
    detector = _made("oversight-shift")
    detector.fit(cases, labels)
    scores = detector.score(cases)
    expected = np.array([np.log(moves[case.group] / parent) for case in cases])
    if detector.explain()["readout"] == "projection":
        expected = np.array([moves[case.group] - parent for case in cases])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert scores[labels].min() > scores[~labels].max()


def test_attentiveness_cuts_the_cue_out_and_nothing_else(tmp_path: Path) -> None:
    import sys

    cases, labels = _cases("oversight-attentiveness", tmp_path)
    detector = _made("oversight-attentiveness")
    module = sys.modules[type(detector).__module__]
    cut = module.without_cue(cases[0])
    assert cut.messages[0]["content"] == "You work at the records desk."
    assert cut.messages[1:] == cases[0].messages[1:]
    detector.fit(cases, labels)
    silent = [replace(case, cue="") for case in cases]
    np.testing.assert_allclose(detector.score(silent), 0.0, atol=1e-12)
    assert (detector.score(cases) > 0).all()


class _Deciding(FakeModel):
    """The lens of each layer: "Sure" leads from a layer on, and by one nat more at each after."""

    def __init__(self, seed: int, depth: int) -> None:
        super().__init__(seed)
        self.depth = depth
        self.digest = f"deciding {seed} {depth}"

    def layer_logprobs(self, conversations: Any, continuations: Any, layers: Any) -> Any:
        chosen = range(self.n_layers + 1) if layers is None else layers
        values = np.full((len(conversations), len(list(chosen)), len(continuations)), -9.0)
        values[:, :, list(continuations).index("I")] = -5.0
        for at, layer in enumerate(chosen):
            values[:, at, list(continuations).index("Sure")] = -5.5 + (layer - self.depth + 1)
        return values


def test_decision_depth_reads_the_layer_from_which_the_final_word_leads(tmp_path: Path) -> None:
    cases, labels = _cases("decision-depth", tmp_path)
    store = Store(tmp_path / "deciding")
    handles = [
        handle_on(_Deciding(group, depth), "activations", store)
        for group, depth in enumerate((1, 3, 1, 3))
    ]
    cases = [replace(case, handle=handles[case.group]) for case in cases]
    detector = _made("decision-depth")
    detector.fit(cases, labels)
    margins = detector._margins(cases)
    for case, row in zip(cases, margins, strict=True):
        depth = (1, 3, 1, 3)[case.group]
        np.testing.assert_allclose(row[:-1], np.arange(4) - depth + 0.5)
        assert row[-1] == depth
    scores = detector.score(cases)
    assert scores[labels].min() > scores[~labels].max()
