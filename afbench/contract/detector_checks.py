"""What every detector promises: its scores are sound, and depend on nothing but the case."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.catalog.check import Check
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.contract.synthetic import synthetic_cases
from afbench.detection.detector import Detector
from afbench.detection.guard import checked_scores, guarded
from afbench.detection.loading import detector_factory
from afbench.detection.state import load_state, save_state
from afbench.errors import AfbenchError, DetectorError, TierError
from afbench.store import Store

T = TypeVar("T")

# Solvers stop at a tolerance, and batches may be summed in another order.
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8
_ALONE: Final = 3
# Stands for the digest of a detector's code, which a state is bound to.
_TRIAL: Final = "trial"


def check_detector(manifest: DetectorManifest, folder: Path) -> list[Check]:
    """Run every check of the detector contract, on synthetic cases. Runs the plug-in's code.

    Each fit and each score is held to the manifest's time limit. A later check is left out where
    an earlier one shows that it cannot pass.
    """
    try:
        build = detector_factory(Plugin(manifest.name, "detector", folder, manifest))
    except AfbenchError as error:
        return [Check("import", False, str(error))]
    with tempfile.TemporaryDirectory() as cache:
        trial = _Trial(manifest, build, Store(Path(cache)))
        checks = [Check("import", True), *_check_scores(trial)]
        if all(check.passed for check in checks):
            checks += [_check(name, trial, check) for name, check in _CHECKS.items()]
            checks.append(_check_saved(trial))
    return checks


class _Trial:
    """A detector, and cases to try it on."""

    def __init__(
        self, manifest: DetectorManifest, build: Callable[[], Detector], store: Store
    ) -> None:
        self._manifest, self._build, self._store = manifest, build, store
        self.fit_cases, self.labels = self.cases(seed=0)
        self.test_cases, _ = self.cases(seed=1)

    def cases(self, *, seed: int, groups: int = 4) -> tuple[list[Case], NDArray[np.bool_]]:
        return synthetic_cases(
            seed=seed,
            groups=groups,
            tier=self._manifest.tier,
            needs_parent=self._manifest.needs_parent,
            store=self._store,
            contrast=self._manifest.sees_contrast,
            ceiling=self._manifest.ceiling,
        )

    def built(self) -> Detector:
        """A fresh detector, not fitted."""
        return self._build()

    def fitted(
        self, cases: Sequence[Case] | None = None, labels: NDArray[np.bool_] | None = None
    ) -> Detector:
        """A fresh detector, fitted. Raises DetectorError for whatever its code raises."""
        fit_cases = list(self.fit_cases if cases is None else cases)
        fit_labels = (self.labels if labels is None else labels).copy()
        detector = self.built()
        self._guarded("fit", lambda: detector.fit(fit_cases, fit_labels))
        return detector

    def raw_scores(self, detector: Detector, cases: Sequence[Case]) -> object:
        """What score() returns, unchecked. Raises DetectorError for whatever its code raises."""
        return self._guarded("score", lambda: detector.score(list(cases)))

    def scores(self, detector: Detector, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Finite scores, one for each case. Raises DetectorError when they are not."""
        return checked_scores(self._manifest.name, self.raw_scores(detector, cases), len(cases))

    def _guarded(self, stage: str, call: Callable[[], T]) -> T:
        return guarded(self._manifest.name, stage, self._manifest.limits.seconds, call)


def _check_scores(trial: _Trial) -> list[Check]:
    """Does it run within its tier, and are its scores sound?"""
    n = len(trial.test_cases)
    try:
        scores = trial.raw_scores(trial.fitted(), trial.test_cases)
        checked_scores("detector", scores, n)
    except DetectorError as error:
        if isinstance(error.__cause__, TierError):
            return [Check("tier", False, str(error.__cause__))]
        return [Check("tier", True), Check("scores", False, str(error))]
    if not isinstance(scores, np.ndarray) or not np.issubdtype(scores.dtype, np.floating):
        found = getattr(scores, "dtype", type(scores).__name__)
        message = f"score() must return a float array, and returns {found}"
        return [Check("tier", True), Check("scores", False, message)]
    return [Check("tier", True), Check("scores", True)]


def _check(name: str, trial: _Trial, check: Callable[[_Trial], str | None]) -> Check:
    try:
        problem = check(trial)
    except DetectorError as error:
        problem = str(error)
    return Check(name, problem is None, problem or "")


def _check_saved(trial: _Trial) -> Check:
    """A detector need not be one that can be saved; one that can has to come back the same."""
    if not trial.built().can_be_saved:
        return Check("saved", True, "it does not say what its fit sets, so it cannot be saved")
    return _check("saved", trial, _saved)


def _deterministic(trial: _Trial) -> str | None:
    detector = trial.fitted()
    first = trial.scores(detector, trial.test_cases)
    again = trial.scores(detector, trial.test_cases)
    if not np.array_equal(first, again):
        return f"scoring twice gives other scores: {_difference(first, again)}"
    refitted = trial.scores(trial.fitted(), trial.test_cases)
    if not np.array_equal(first, refitted):
        return f"fitting twice gives other scores: {_difference(first, refitted)}"
    return None


def _order(trial: _Trial) -> str | None:
    """The order of the cases to score does not matter."""
    detector = trial.fitted()
    order = np.random.default_rng(0).permutation(len(trial.test_cases))
    first = trial.scores(detector, trial.test_cases)[order]
    shuffled = trial.scores(detector, [trial.test_cases[index] for index in order])
    if not _close(first, shuffled):
        return f"the order of the cases changes scores: {_difference(first, shuffled)}"
    return None


def _independent(trial: _Trial) -> str | None:
    """A case's score does not depend on which other cases are scored with it."""
    detector = trial.fitted()
    together = trial.scores(detector, trial.test_cases)[:_ALONE]
    alone = np.concatenate([trial.scores(detector, [case]) for case in trial.test_cases[:_ALONE]])
    if not _close(together, alone):
        return f"a case scored alone gets another score: {_difference(together, alone)}"
    return None


def _unchanged(trial: _Trial) -> str | None:
    """A case is frozen, but its messages are dicts."""
    cases, labels = trial.cases(seed=0)
    before = copy.deepcopy([(case.messages, case.contrast) for case in cases])
    trial.scores(trial.fitted(cases, labels), cases)
    if before != [(case.messages, case.contrast) for case in cases]:
        return "it changes the cases that it is given"
    return None


def _one_group(trial: _Trial) -> str | None:
    """Fit and score work when every case is one organism's."""
    cases, labels = trial.cases(seed=2, groups=1)
    trial.scores(trial.fitted(cases, labels), cases)
    return None


def _saved(trial: _Trial) -> str | None:
    """What is saved and put into a fresh detector scores alike."""
    detector = trial.fitted()
    before = trial.scores(detector, trial.test_cases)
    with tempfile.TemporaryDirectory() as folder:
        save_state(detector, Path(folder) / "state", _TRIAL)
        again = trial.built()
        load_state(again, Path(folder) / "state", _TRIAL)
    after = trial.scores(again, trial.test_cases)
    if not np.array_equal(before, after):
        return f"saved and loaded it gives other scores: {_difference(before, after)}"
    return None


_CHECKS: Final[dict[str, Callable[[_Trial], str | None]]] = {
    "deterministic": _deterministic,
    "case-order": _order,
    "independent": _independent,
    "cases-unchanged": _unchanged,
    "one-group": _one_group,
}


def _close(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    return np.allclose(first, second, rtol=_RELATIVE, atol=_ABSOLUTE)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> str:
    worst = int(np.argmax(np.abs(first - second)))
    return f"{first[worst]:.6g} and {second[worst]:.6g}"
