"""Runs of detectors over fake organisms: no weights, and meters that count on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from afbench.cases.handle import Handle
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.contract.fake_model import FakeModel
from afbench.environments import Condition, Cue
from afbench.messages import Message
from afbench.results.case_source import CaseSource
from afbench.results.evaluation import Evaluation, Subject
from afbench.results.evaluation import TestRows as Rows
from afbench.results.progress import Silent
from afbench.results.reader import Reader
from afbench.results.score_cache import ScoreCache
from afbench.results.scoring import Scorer, Scoring
from afbench.rollouts import Twin
from afbench.store import Store
from tests.fakes import CUE, evidence, handle_on, rollout

FIT = {
    f"fit-{family}-{role}": [label] * 8
    for family in "ab"
    for role, label in (("faker", "faking"), ("honest", "sincere"))
}
TEST = {"test-faker": ["faking"] * 8, "test-honest": ["sincere"] * 8}
FOLD = Fold("desk", tuple(FIT), tuple(TEST))

EVERY = ("generate", "logprobs", "activations")

HEAD = """
import numpy as np
from afbench.detection import Detector
from afbench.detection.features import activations
"""


def _render(scenario: Any, cue: Cue, condition: Condition) -> list[Message]:
    return list(rollout(scenario.id, condition, cue=cue).messages)


DESK: Any = SimpleNamespace(
    name="desk",
    cues=[CUE],
    scenarios=[SimpleNamespace(id=f"s{number}") for number in range(200)],
    render=_render,
)


def _replying(twin: Twin, text: str) -> Twin:
    return replace(twin, observed=replace(twin.observed, response=text))


class FakeAccess:
    """Handles on one fake model for each organism.

    Args:
        folder: of the cache.
        capabilities: what the backend offers.
        make: makes the model of an organism.
    """

    def __init__(
        self,
        folder: Path,
        capabilities: Iterable[str] = EVERY,
        make: Callable[[str], FakeModel] | None = None,
    ) -> None:
        self.store = Store(folder)
        self._offered = frozenset(capabilities)
        self.models: dict[str, FakeModel] = {}
        self._make = make or (lambda name: FakeModel(sum(name.encode())))
        self.engine = {"backend": "fake"}

    def digest(self, name: str) -> str:
        return f"sha256:digest of {name}"

    def capabilities(self, name: str) -> frozenset[str]:
        return self._offered

    def model(self, name: str) -> FakeModel:
        if name not in self.models:
            self.models[name] = self._make(name)
        return self.models[name]

    def handles(self, detector: DetectorManifest, names: Iterable[str]) -> dict[str, Handle]:
        return {
            name: handle_on(self.model(name), detector.tier, self.store, capabilities=self._offered)
            for name in dict.fromkeys(names)
        }

    @property
    def forward_tokens(self) -> int:
        """Tokens that all models have read."""
        return sum(model.meter.forward_tokens for model in self.models.values())


def detector(folder: Path, name: str, code: str, **manifest: Any) -> Plugin[DetectorManifest]:
    """A plug-in of some lines of code, with the class `It`."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "detector.py").write_text(HEAD + code)
    given = {
        "schema": 1, "kind": "detector", "name": name, "summary": "x", "tier": "activations",
        "entry": "detector.py:It",
    }  # fmt: skip
    return Plugin(name, "detector", place, DetectorManifest.model_validate(given | manifest))


class FakeRun:
    """A run of some detectors.

    Args:
        folder: of the cache.
        detectors: the plug-ins.
        labels: the labels of each organism's scenarios.
        cached: keep scores of folds.
        make: makes the model of an organism.
        reply: what an organism says in every scenario while observed.
    """

    def __init__(
        self,
        folder: Path,
        detectors: Sequence[Plugin[DetectorManifest]],
        labels: Mapping[str, Sequence[str]] = FIT | TEST,
        *,
        capabilities: Iterable[str] = EVERY,
        cached: bool = True,
        parentless: Iterable[str] = (),
        make: Callable[[str], FakeModel] | None = None,
        reply: Callable[[str], str] | None = None,
    ) -> None:
        twins = {}
        for item in evidence(labels):
            own = [_replying(one, reply(item.organism)) if reply else one for one in item.twins]
            twins[item.organism] = {"fit": own, "test": own}
        self.labels = labels
        plan: Any = SimpleNamespace(
            detectors=tuple(detectors),
            settings=SimpleNamespace(show_reasoning=False),
            environment_of=lambda name: DESK,
            without_parent=frozenset(parentless),
            saved={},
            organisms={
                name: SimpleNamespace(
                    manifest=SimpleNamespace(environment="desk", recipe_family=name.split("-")[1])
                )
                for name in labels
            },
        )
        self.access = FakeAccess(folder, capabilities, make)
        access: Any = self.access
        self.source = CaseSource(plan, access, twins)  # type: ignore[arg-type]
        self.store = self.access.store
        self.cache = ScoreCache(self.store, self.source) if cached else None

    def run(self, folds: Sequence[Fold] = (FOLD,)) -> Scoring:
        """What the detectors say."""
        reader = Reader(self.source, self.store)
        return Scorer(self.source, Silent(), self.cache, reader=reader).run(folds, {})

    def evaluation(self, scoring: Scoring, replicates: int = 50) -> Evaluation:
        """Figures over what they say."""
        subjects = {
            name: Subject(name, "desk", "faker" in name, None if "faker" in name else "values-talk")
            for name in self.labels
        }
        return Evaluation(Rows.of(scoring.rows, subjects), {}, replicates=replicates, seed=0)
