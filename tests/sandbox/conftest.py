"""Detectors of a few lines, and one sandbox for all tests: what harms it fails the next one."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest, Tier
from afbench.contract.synthetic import synthetic_cases
from afbench.detection.detector import Detector
from afbench.detection.loading import detector_factory
from afbench.sandbox.bubblewrap import Bubblewrap
from afbench.sandbox.host import SandboxFactory
from afbench.sandbox.limits import MIB, Limits
from afbench.sandbox.view import View
from afbench.store import Store

SMALL = Limits(
    memory=512 * MIB, tmp_bytes=4 * MIB, tmp_files=64, threads=6, output=64 * 1024, frames=500,
    sent=8 * MIB, answered=32 * MIB, conversations=1000,
)  # fmt: skip

# What the host keeps to itself.
SECRET = "of-nobody-else-7f3a91c2"

HEAD = """
import os
import numpy as np
from afbench.detection import Detector

class It(Detector):
    def __init__(self, **params):
        self.found = {}
    def explain(self):
        return self.found
    def score(self, cases):
        return np.array([float(len(case.response)) for case in cases])
    def fit(self, cases, labels):
"""

Cases = tuple[list[Case], NDArray[np.bool_]]


def plugin_of(folder: Path, code: str, name: str = "it", **manifest: Any) -> Plugin[Any]:
    """A detector whose `fit` has this body; or of this module, if it begins with a class."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    code = textwrap.dedent(code)
    whole = code if "class It" in code else HEAD + textwrap.indent(code.strip("\n"), " " * 8)
    (place / "detector.py").write_text(f"{whole}\n")
    given = {
        "schema": 1, "kind": "detector", "name": name, "summary": "x", "tier": "activations",
        "entry": "detector.py:It", "limits": {"seconds": 60},
    }  # fmt: skip
    return Plugin(name, "detector", place, DetectorManifest.model_validate(given | manifest))


def cases_of(
    folder: Path,
    manifest: DetectorManifest | None = None,
    seed: int = 0,
    tier: Tier = "activations",
) -> Cases:
    """Synthetic cases for a detector, on a cache of their own."""
    return synthetic_cases(
        seed=seed,
        groups=4,
        tier=manifest.tier if manifest else tier,
        needs_parent=bool(manifest and manifest.needs_parent),
        store=Store(folder / "cache"),
        contrast=bool(manifest and manifest.sees_contrast),
        ceiling=bool(manifest and manifest.ceiling),
    )


def scored(make: Callable[[], Detector], plugin: Plugin[DetectorManifest], folder: Path) -> Any:
    """What a detector chooses and scores, fitted on synthetic cases."""
    detector = make()
    detector.fit(*cases_of(folder, plugin.manifest, seed=0))
    scores = detector.score(cases_of(folder, plugin.manifest, seed=1)[0])
    return detector.explain(), scores


@pytest.fixture(scope="session")
def view() -> View:
    return View.of_this_machine()


@pytest.fixture(scope="session")
def bubblewrap(view: View) -> None:
    """Skips the tests of a machine on which bubblewrap does not work."""
    sandbox = Bubblewrap(view, SMALL)
    problem = sandbox.problem()
    sandbox.close()
    if problem is not None:
        pytest.skip(problem)


@pytest.fixture(scope="session")
def everyone(view: View, bubblewrap: None) -> Iterator[SandboxFactory]:
    """The sandbox that all tests share; it begins where a key is in the environment."""
    factory = SandboxFactory(Bubblewrap(view, SMALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", SECRET)
        factory.start()
    yield factory
    factory.close()


NEXT = """
from afbench.detection.features import activations

class It(Detector):
    def fit(self, cases, labels):
        features = activations(cases, [1], ["response_mean"])[:, 0, 0]
        self.direction = features[labels].mean(0) - features[~labels].mean(0)
    def score(self, cases):
        return activations(cases, [1], ["response_mean"])[:, 0, 0] @ self.direction
"""


@pytest.fixture
def box(everyone: SandboxFactory, tmp_path: Path) -> Iterator[SandboxFactory]:
    """The same, with a look at whether the next submission scores as it does in process."""
    yield everyone
    code = HEAD.partition("class")[0] + NEXT
    plugin = plugin_of(tmp_path / "next", code, "next")
    _, here = scored(detector_factory(plugin), plugin, tmp_path / "here")
    _, there = scored(everyone(plugin), plugin, tmp_path / "there")
    np.testing.assert_array_equal(here, there)
