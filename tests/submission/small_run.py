"""A finished run of fake organisms, with every file that a real one writes; and its submission."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from afbench import __version__
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.results.behaviour_reading import read_behaviour
from afbench.results.evaluation import Evaluation, Subject
from afbench.results.evaluation import TestRows as Rows
from afbench.results.evidence_file import save_evidence
from afbench.results.figures_of import every_detector, gaps_of, measured
from afbench.results.record import (
    CacheUse,
    Inputs,
    OrganismFigures,
    ResultRecord,
    RunSettings,
    Timings,
)
from afbench.results.score_file import save_scores
from afbench.submission.folder import open_submission, write_draft
from tests.results.fake_run import FOLD, FakeRun, detector

NAME = "my-reader"
READER = """
class It(Detector):
    def fit(self, cases, labels):
        self.mean = activations(cases, [1], ["all_mean"])[:, 0, 0][labels].mean(axis=0)
    def score(self, cases):
        return activations(cases, [1], ["all_mean"])[:, 0, 0] @ self.mean
"""
LENGTH = """
class It(Detector):
    def fit(self, cases, labels):
        pass
    def score(self, cases):
        return np.array([float(len(case.response)) for case in cases])
"""
BROKEN = """
class It(Detector):
    def fit(self, cases, labels):
        raise ValueError("no such thing")
    def score(self, cases):
        return np.zeros(len(cases))
"""
SETTINGS = RunSettings(
    detectors=[NAME], organism="all", split="recipe", fit_scenarios=8, test_scenarios=8,
    replicates=50,
)  # fmt: skip


def folder_of(place: Path, name: str = NAME, code: str = READER, **manifest: Any) -> Path:
    """A detector's folder as `afbench submit` takes it."""
    folder = detector(place, name, code, **manifest).folder
    given = {
        "schema": 1, "kind": "detector", "name": name, "summary": "x", "tier": "activations",
        "entry": "detector.py:It",
    }  # fmt: skip
    (folder / "detector.yaml").write_text(yaml.safe_dump(given | manifest))
    (folder / "card.md").write_text("# A reader\n")
    filled_in(folder)
    return folder


def filled_in(folder: Path, **further: Any) -> None:
    """A submission.yaml as its authors leave it."""
    path = folder / "submission.yaml"
    if not path.exists():
        write_draft(folder)
    content = yaml.safe_load(path.read_text())
    content |= {"authors": ["A. Nother"], "licence": "MIT", "training_data": "none"}
    path.write_text(yaml.safe_dump(content | further, sort_keys=False))


def run_of(place: Path, folder: Path, extra: Sequence[Plugin[DetectorManifest]] = ()) -> Path:
    """The folder of a run of a submission, a floor and a detector that breaks its contract."""
    with open_submission(folder) as submission:
        others = [
            detector(place / "others", "a-floor", LENGTH, tier="text", floor=True),
            detector(place / "others", "a-broken-one", BROKEN),
            *extra,
        ]
        plugins = [submission.plugin, *others]
        fake = FakeRun(place / "cache", plugins)
        scoring = fake.run()
        code = {submission.plugin.name: submission.manifest.code_digest}
    subjects = {
        name: Subject(name, "desk", "faker" in name, None if "faker" in name else "values-talk")
        for name in fake.labels
    }
    organisms = [_organism(name, fake.source.twins[name]) for name in fake.labels]
    evaluation = Evaluation(
        Rows.of(scoring.rows, subjects), gaps_of(organisms), replicates=50, seed=0
    )
    manifests = {plugin.name: plugin.manifest for plugin in plugins}
    readings = read_behaviour(scoring, evaluation)
    every = every_detector(scoring, evaluation, readings, manifests, subjects, SETTINGS)
    target = place / "run"
    record = ResultRecord(
        id="0123456789abcdef", digest="", created="2026-01-01T00:00:00+00:00",
        settings=SETTINGS,
        inputs=Inputs(
            organisms={}, environments={}, detectors=code, certificates={},
            versions={"afbench": __version__},
        ),
        folds={FOLD.name: {"fit": list(FOLD.fit), "test": list(FOLD.test)}},
        organisms=organisms, detectors=list(every), scores=save_scores(target, scoring),
        timings=Timings(rollouts=0, detectors={}, total=0),
        cache=CacheUse(hits=0, misses=0, computed_forward_tokens=0),
    ).with_digest()  # fmt: skip
    save_evidence(target, scoring, fake.source.twins)
    record.save(target)
    return target


def copied(run: Path, to: Path) -> Path:
    """A run whose files a test may change."""
    shutil.copytree(run, to)
    return to


def _organism(name: str, parts: Any) -> OrganismFigures:
    faker = "faker" in name
    sides = {"test": parts["test"]} if name in FOLD.test else {"fit": parts["fit"]}
    parts.clear()
    parts.update(sides)
    role = "faker" if faker else "lookalike"
    return OrganismFigures.model_validate(
        {
            "name": name, "base": "nano", "environment": "desk", "role": role,
            "lookalike_class": None if faker else "values-talk", "recipe_family": "rank-4",
            "seed": 0, "leak": None, "certificate": "provisional",
        } | measured(sides, role, "provisional", SETTINGS)
    )  # fmt: skip
