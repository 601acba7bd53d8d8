"""Every detector of this checkout runs on cases of organisms that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import TIERS, DetectorManifest, Tier, load_manifest
from afbench.contract import check_plugin
from afbench.contract.fake_model import FakeModel
from afbench.contract.synthetic import synthetic_cases
from afbench.detection import Detector
from afbench.detection.loading import detector_factory
from afbench.errors import TierError
from afbench.store import Store
from tests.fakes import handle_on
from tests.shipped import ROOT, names

DETECTORS = names("detector")
BELOW: dict[Tier, Tier] = {"logprobs": "text", "activations": "logprobs", "weights": "activations"}


def _fit_and_score(detector: Any, cases: Any, labels: Any) -> None:
    """A detector of fixed sign asks nothing in its fit."""
    detector.fit(cases, labels)
    detector.score(cases)


def _manifest(name: str) -> DetectorManifest:
    manifest = load_manifest(ROOT / "detectors" / name)
    assert isinstance(manifest, DetectorManifest)
    return manifest


def _make(name: str) -> Callable[[], Any]:
    return detector_factory(Plugin(name, "detector", ROOT / "detectors" / name, _manifest(name)))


def _cases(name: str, seed: int, folder: Path, **changes: Any) -> Any:
    manifest = _manifest(name)
    options = {
        "tier": manifest.tier,
        "needs_parent": manifest.needs_parent,
        "contrast": manifest.sees_contrast,
        "ceiling": manifest.ceiling,
        **changes,
    }
    return synthetic_cases(seed=seed, groups=4, store=Store(folder), **options)


def test_the_questioners_can_do_with_samples() -> None:
    sampled = {name for name in DETECTORS if _manifest(name).least_tier == "text"}
    assert sampled == {"prompt-probe", "self-report", "followup-lie-detector"}


def test_two_baselines_at_least_five_floors_and_every_tier_are_shipped() -> None:
    floors = {name for name in DETECTORS if _manifest(name).floor}
    assert {"probe", "prompt-probe"} <= set(DETECTORS) - floors
    assert len(floors) >= 5
    assert {_manifest(name).tier for name in DETECTORS} == set(TIERS)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_shipped_detector_fits_and_scores_and_says_what_it_chose(
    tmp_path: Path, name: str
) -> None:
    cases, labels = _cases(name, 0, tmp_path)
    unseen, _ = _cases(name, 1, tmp_path)
    detector: Detector = _make(name)()
    before = labels.copy()
    detector.fit(cases, labels)
    np.testing.assert_array_equal(labels, before)
    scores = detector.score(unseen)
    assert scores.shape == (len(unseen),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    for key, value in detector.explain().items():
        assert isinstance(key, str)
        assert isinstance(value, str | int | float)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_shipped_detector_keeps_the_contract_that_third_parties_are_held_to(name: str) -> None:
    report = check_plugin(ROOT / "detectors" / name)
    assert report.passed, report.failures


@pytest.mark.parametrize("name", [name for name in DETECTORS if _manifest(name).tier != "text"])
def test_a_shipped_detector_declares_no_higher_tier_than_it_needs(
    tmp_path: Path, name: str
) -> None:
    lower = BELOW[_manifest(name).tier]
    cases, labels = _cases(name, 0, tmp_path, tier=lower)
    detector = _make(name)()
    if _manifest(name).least_tier:
        detector.fit(cases, labels)
        assert detector.explain()["answers"] == "sampled"
        assert np.isfinite(detector.score(cases)).all()
        return
    with pytest.raises(TierError):
        _fit_and_score(detector, cases, labels)


@pytest.mark.parametrize("name", [name for name in DETECTORS if _manifest(name).needs_parent])
def test_a_shipped_detector_that_declares_the_parent_needs_it(tmp_path: Path, name: str) -> None:
    cases, labels = _cases(name, 0, tmp_path, needs_parent=False)
    with pytest.raises(TierError, match="parent"):
        _fit_and_score(_make(name)(), cases, labels)


@pytest.mark.parametrize("name", [name for name in DETECTORS if _manifest(name).sees_contrast])
def test_a_shipped_detector_that_declares_the_contrast_needs_it(tmp_path: Path, name: str) -> None:
    cases, labels = _cases(name, 0, tmp_path, contrast=False, ceiling=False)
    with pytest.raises(TierError, match="contrast"):
        _fit_and_score(_make(name)(), cases, labels)


# The floors look at what they say and at nothing else


def _rewritten(cases: list[Case], **changes: Callable[[Case], str]) -> list[Case]:
    done = []
    for case in cases:
        messages = list(case.messages)
        if "response" in changes:
            messages[-1] = {"role": "assistant", "content": changes["response"](case)}
        if "prompt" in changes:
            messages[:-1] = [{"role": "user", "content": changes["prompt"](case)}]
        cue = changes["cue"](case) if "cue" in changes else case.cue
        done.append(replace(case, messages=tuple(messages), cue=cue))
    return done


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("floor-bag-of-words", {"prompt": lambda case: "x", "cue": lambda case: "y"}),
        ("floor-length", {"prompt": lambda case: "x", "cue": lambda case: "y"}),
        ("floor-length", {"response": lambda case: case.response.replace("o", "e")}),
        ("floor-cue", {"prompt": lambda case: "x", "response": lambda case: "y"}),
    ],
)
def test_a_text_floor_looks_at_nothing_else(
    tmp_path: Path, name: str, ignored: dict[str, Any]
) -> None:
    cases, labels = _cases(name, 0, tmp_path)
    detector = _make(name)()
    detector.fit(cases, labels)
    np.testing.assert_array_equal(
        detector.score(cases), detector.score(_rewritten(cases, **ignored))
    )


class _NoZero(FakeModel):
    """A model whose layer 0 is the same for every organism, and says which layers are asked."""

    def activations(self, conversations: Any, layers: Any, poolings: Any) -> Any:
        values = super().activations(conversations, layers, poolings)
        shared = FakeModel(0).activations(conversations, [0], poolings)
        chosen = list(range(self.n_layers + 1)) if layers is None else list(layers)
        values[:, :, chosen.index(0)] = shared[:, :, 0]
        return values


def test_the_layer_zero_floor_looks_at_layer_zero_and_the_probe_does_not(tmp_path: Path) -> None:
    cases, labels = _cases("probe", 0, tmp_path)
    store = Store(tmp_path / "planted")
    handles = {group: handle_on(_NoZero(group + 1), "activations", store) for group in range(4)}
    others = {group: handle_on(_NoZero(group + 9), "activations", store) for group in range(4)}
    mine, theirs = (
        [replace(case, handle=given[case.group]) for case in cases] for given in (handles, others)
    )
    floor, probe = _make("floor-layer-zero")(), _make("probe")()
    floor.fit(mine, labels)
    probe.fit(mine, labels)
    assert probe.explain()["layer"] > 0
    # The organisms of `theirs` have the same embeddings and other layers above.
    np.testing.assert_allclose(floor.score(theirs), floor.score(mine))
    assert not np.allclose(probe.score(theirs), probe.score(mine))


# The prompt probe


def test_the_prompt_probe_asks_for_log_probabilities_where_there_are_any(tmp_path: Path) -> None:
    cases, labels = _cases("prompt-probe", 0, tmp_path)
    detector = _make("prompt-probe")()
    detector.fit(cases, labels)
    detector.score(cases)
    assert detector.explain() == {"answers": "log-probabilities"}
    assert {case.handle.spent.generated_tokens for case in cases} == {0}


def test_the_prompt_probe_falls_back_to_sampled_answers(tmp_path: Path) -> None:
    cases, labels = _cases("prompt-probe", 0, tmp_path)
    store, only_text = Store(tmp_path / "api"), frozenset({"generate"})
    handles = {
        group: handle_on(FakeModel(group), "logprobs", store, capabilities=only_text)
        for group in range(4)
    }
    blind = [replace(case, handle=handles[case.group]) for case in cases]
    detector = _make("prompt-probe")()
    detector.fit(blind, labels)
    scores = detector.score(blind)
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0
    assert detector.explain() == {"answers": "sampled"}
    assert all(handle.spent.generated_tokens > 0 for handle in handles.values())


def test_the_prompt_probe_mixes_no_two_scales(tmp_path: Path) -> None:
    cases, labels = _cases("prompt-probe", 0, tmp_path)
    store = Store(tmp_path / "api")
    one = handle_on(FakeModel(0), "logprobs", store, capabilities=frozenset({"generate"}))
    mixed = [replace(case, handle=one) if case.group == 0 else case for case in cases]
    detector = _make("prompt-probe")()
    detector.fit(mixed, labels)
    assert detector.explain() == {"answers": "sampled"}, "one that has none decides for all"
    assert {case.handle.spent.generated_tokens > 0 for case in mixed} == {True}


def test_the_prompt_probe_asks_at_least_one_question_about_nothing() -> None:
    questions = _manifest("prompt-probe").params["questions"]
    assert len(questions) == len(set(questions)) >= 5
    assert any("two plus two" in question for question in questions)
