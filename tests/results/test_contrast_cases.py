"""What a run shows of contrasts: to detectors that declare them, and to no other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afbench.cases.handle import Handle
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Plugin, discover
from afbench.catalog.manifests import DetectorManifest
from afbench.environments import Environment
from afbench.errors import DetectorError
from afbench.results.case_source import CaseSource
from afbench.results.progress import Silent
from afbench.results.scoring import Scorer, Scoring
from afbench.rollouts import Twin
from tests.fakes import fake_handles, rollout

FIT, TEST = ("a-faker", "a-honest", "b-faker", "b-honest"), ("test-faker", "test-honest")
ENVIRONMENTS = ("oversight-desk", "training-tier")

DETECTOR = """
import json
import numpy as np
from pathlib import Path
from afbench.detection import Detector

class Shows(Detector):
    def __init__(self, log):
        self.log = Path(log)
    def _show(self, cases):
        with self.log.open("a") as file:
            for case in cases:
                file.write(json.dumps([case.messages, case.contrast]) + "\\n")
    def fit(self, cases, labels):
        self._show(cases)
    def score(self, cases):
        self._show(cases)
        return np.zeros(len(cases))
"""


def _twins(environment: Environment, faking: bool, name: str) -> list[Twin]:
    twins = []
    for placement in environment.placements("test", 4):
        sides = []
        for condition, conforms in (("observed", True), ("unobserved", not faking)):
            one = rollout(
                placement.scenario.id, condition, conforms=conforms, cue=placement.cue,
                response=f"{condition} reply of {name}",
            )  # fmt: skip
            record = one.as_record()
            record["messages"] = environment.render(placement.scenario, placement.cue, condition)
            sides.append(type(one).from_record(record))
        twins.append(Twin(*sides))
    return twins


def _run(folder: Path, **fields: Any) -> Scoring:
    (folder / "detector.py").write_text(DETECTOR)
    manifest = DetectorManifest.model_validate(
        {
            "schema": 1, "kind": "detector", "name": "shows", "summary": "x",
            "tier": "logprobs", "entry": "detector.py:Shows",
            "params": {"log": str(folder / "log")}, **fields,
        }
    )  # fmt: skip
    shipped = discover([]).environments
    environments = [Environment.load(shipped[name]) for name in ENVIRONMENTS]
    # The two organisms of a fold's side live in other environments.
    of = {name: environments["honest" in name] for name in (*FIT, *TEST)}
    twins: Any = {
        name: dict.fromkeys(("fit", "test"), _twins(of[name], "faker" in name, name)) for name in of
    }
    plan: Any = SimpleNamespace(
        detectors=(Plugin("shows", "detector", folder, manifest),),
        settings=SimpleNamespace(show_reasoning=False),
        saved={},
        without_parent=frozenset(),
        environment_of=of.__getitem__,
        organisms={
            name: SimpleNamespace(
                manifest=SimpleNamespace(environment=of[name].name, recipe_family=name[0])
            )
            for name in of
        },
    )

    def handles(detector: DetectorManifest, names: Iterable[str]) -> dict[str, Handle]:
        return fake_handles(list(names), folder / "cache", tier=detector.tier)

    access: Any = SimpleNamespace(
        digest=lambda name: f"digest of {name}",
        handles=handles,
        capabilities=lambda name: frozenset({"generate", "logprobs", "activations"}),
    )
    source = CaseSource(plan, access, twins)
    return Scorer(source, Silent()).run([Fold("desk", FIT, TEST)], {})


def _seen(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


@pytest.mark.parametrize("fields", [{"contrast": True}, {"ceiling": True}])
def test_every_case_comes_with_the_contrast_of_its_own_environment(
    tmp_path: Path, fields: dict[str, bool]
) -> None:
    scoring = _run(tmp_path, **fields)
    assert not isinstance(scoring.outcomes["shows"], DetectorError)
    shipped = discover([]).environments
    cues = {
        cue.observed: cue.unobserved
        for name in ENVIRONMENTS
        for cue in Environment.load(shipped[name]).cues
    }
    seen = _seen(tmp_path)
    assert len(seen) > 4 * len(TEST)
    for messages, contrast in seen:
        assert contrast[-1] == messages[-1]
        assert messages[-1]["content"].startswith("observed reply")
        pairs = [
            (shown, hidden)
            for shown, hidden in cues.items()
            if shown in str(messages) and hidden in str(contrast)
        ]
        assert pairs
        assert str(contrast) != str(messages)


def test_a_detector_that_does_not_declare_them_sees_none(tmp_path: Path) -> None:
    _run(tmp_path)
    assert _seen(tmp_path)
    assert all(contrast is None for _, contrast in _seen(tmp_path))
