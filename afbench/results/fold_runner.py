"""What one detector says of one fold: from the cache, or by fitting and scoring it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from afbench.cases.recording import InputRecorder
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.detector import Detector
from afbench.detection.guard import guarded
from afbench.detection.harness import FoldScores, run_fold, score_fold
from afbench.detection.loading import detector_digest, detector_factory
from afbench.errors import (
    DetectorError,
    DetectorUnavailableError,
    NotEnoughCasesError,
    TierError,
)
from afbench.results.case_source import CaseSource
from afbench.results.reader import Reader, is_read
from afbench.results.score_cache import ScoreCache

if TYPE_CHECKING:
    from afbench.cases.handle import Handle
    from afbench.cases.splits import Fold
    from afbench.sandbox.host import DetectorFactory


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one detector in one fold, and how long it took.

    `read` is what a reader of behaviour made of each fold of the headline, or why it made nothing.
    """

    outcome: FoldScores | DetectorError
    seconds: float
    read: tuple[NDArray[np.float64] | str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoldRunner:
    """Fits and scores detectors on folds.

    Args:
        source: makes the cases.
        cache: where scores are kept; None keeps none.
        reader: what detectors are compared with; None compares none.
        factory: makes detectors, in this process or in a sandbox.
    """

    source: CaseSource
    cache: ScoreCache | None = None
    reader: Reader | None = None
    factory: DetectorFactory = detector_factory

    def run(
        self, plugin: Plugin[DetectorManifest], folds: Sequence[Fold], headline: int = 1
    ) -> Said:
        """What a detector says of a fold, and of further folds that the same fit serves.

        Args:
            headline: how many of them, from the first, the cost is over.

        Raises:
            AfbenchError: the host failed; what the detector does wrong is an outcome.
        """
        started = time.perf_counter()
        try:
            outcome: FoldScores | DetectorError = self._scores(plugin, folds, headline)
        except DetectorError as error:
            outcome = error
        seconds = time.perf_counter() - started
        return Said(outcome, seconds, self._read(plugin.manifest, folds[:headline], outcome))

    def _read(
        self,
        manifest: DetectorManifest,
        folds: Sequence[Fold],
        outcome: FoldScores | DetectorError,
    ) -> tuple[NDArray[np.float64] | str, ...]:
        if self.reader is None or isinstance(outcome, DetectorError) or not is_read(manifest):
            return ()
        if outcome.inputs is None:
            return ("what it asked was not noted",) * len(folds)
        try:
            return tuple(self.reader.read(fold, outcome.inputs) for fold in folds)
        except (TierError, NotEnoughCasesError) as error:  # a backend that does not generate, say
            return (str(error),) * len(folds)

    def _scores(
        self, plugin: Plugin[DetectorManifest], folds: Sequence[Fold], headline: int
    ) -> FoldScores:
        self._check_tier(plugin, folds)
        self._check_parents(plugin, folds)
        make = self.factory(plugin)
        if self.cache is None:
            return self._computed(plugin, make, folds, headline)
        saved = self.source.plan.saved.get(plugin.name)
        identity = detector_digest(plugin) if saved is None else saved.about.digest
        dependence, contrast = _dependence(plugin, make), plugin.manifest.sees_contrast
        key = self.cache.key(identity, f"{headline}: {dependence}", folds, contrast)
        scores = self.cache.read(key)
        if scores is None:
            scores = self._computed(plugin, make, folds, headline)
            self.cache.write(key, scores)
        return scores

    def _computed(
        self,
        plugin: Plugin[DetectorManifest],
        make: Callable[[], Detector],
        folds: Sequence[Fold],
        headline: int,
    ) -> FoldScores:
        manifest = plugin.manifest
        first, *others = folds
        access, contrast = self.source.access, manifest.sees_contrast
        tested = [name for fold in folds[: max(1, headline)] for name in fold.test]
        handles = access.handles(manifest, list(dict.fromkeys([*first.fit, *tested])))
        fit, test = self.source.sides(first, handles, contrast=contrast)
        further = []
        every: list[Handle] = list(handles.values())
        for place, fold in enumerate(others, start=1):
            if place < headline:
                further.append(self.source.test_side(fold, handles, contrast=contrast))
                continue
            # Handles of its own: what it costs must not show in the cost of the headline.
            own = access.handles(manifest, fold.test)
            further.append(self.source.test_side(fold, own, contrast=contrast))
            every += own.values()
        recorder = InputRecorder()
        for side in (fit, test, *further):
            recorder.learn(side.cases)
        recorder.watch(every)
        seconds = manifest.limits.seconds
        saved = self.source.plan.saved.get(plugin.name)
        if saved is not None:
            for name in dict.fromkeys(name for fold in folds for name in fold.test):
                saved.check_shape(name, access.shape(name))
            fitted = saved.fitted(self.factory)
            scores = score_fold(plugin.name, fitted, seconds, test, handles, further)
        else:
            families = self.source.families()
            scores = run_fold(plugin.name, make, seconds, fit, test, families, handles, further)
        return replace(scores, inputs=recorder.seen)

    def _check_tier(self, plugin: Plugin[DetectorManifest], folds: Sequence[Fold]) -> None:
        tier = plugin.manifest.least_tier or plugin.manifest.tier
        needed = "generate" if tier == "text" else tier
        for name in sorted({name for fold in folds for name in (*fold.fit, *fold.test)}):
            offered = self.source.access.capabilities(name)
            if needed not in offered:
                backend = self.source.access.engine["backend"]
                raise DetectorUnavailableError(
                    f"it needs the tier '{tier}', and the backend '{backend}' offers "
                    f"{', '.join(sorted(offered))}",
                    fix="run it on another backend",
                )

    def _check_parents(self, plugin: Plugin[DetectorManifest], folds: Sequence[Fold]) -> None:
        if not plugin.manifest.needs_parent:
            return
        names = {name for fold in folds for name in (*fold.fit, *fold.test)}
        without = sorted(names & self.source.plan.without_parent)
        if without:
            raise DetectorUnavailableError(
                f"it asks the parent, and '{without[0]}' has none",
                fix="run it on organisms that were made from another",
            )


def _dependence(plugin: Plugin[DetectorManifest], make: Callable[[], Detector]) -> str:
    """What a detector says that its scores follow from besides its code and the cases."""
    seconds = plugin.manifest.limits.seconds
    return str(guarded(plugin.name, "depends_on", seconds, lambda: make().depends_on()))
