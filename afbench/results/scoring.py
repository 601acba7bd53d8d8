"""Stages 2 and 3 of a run: the cases of every fold, and what each detector says of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from afbench.cases.access import OrganismAccess
from afbench.cases.assembly import CaseRow, CaseSet, Evidence, assemble
from afbench.cases.handle import Handle
from afbench.cases.labels import label_of
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.detector import Detector
from afbench.detection.harness import FoldScores, run_fold
from afbench.detection.loading import detector_factory
from afbench.environments import Partition
from afbench.errors import DetectorError
from afbench.results.inputs import Plan
from afbench.results.progress import Progress
from afbench.rollouts import Twin

Twins = dict[str, dict[Partition, list[Twin]]]
Scores = NDArray[np.float64]
Rows = tuple[CaseRow, ...]


@dataclass(frozen=True, slots=True)
class EvasionScores:
    """What detectors said of the organisms of one evasion, over its folds laid end to end."""

    folds: tuple[Fold, ...]
    rows: tuple[Rows, ...]
    scores: dict[str, Scores | DetectorError]


@dataclass(frozen=True, slots=True)
class Scoring:
    """What detectors said in one run.

    Attributes:
        folds, rows: of the headline, and the test cases of each.
        outcomes: of each detector, its scores on every fold, or how it broke its contract.
        evasions: the organisms that were made hard to detect, by how.
        seconds: wall-clock time of each detector.
    """

    folds: tuple[Fold, ...]
    rows: tuple[Rows, ...]
    outcomes: dict[str, list[FoldScores] | DetectorError]
    evasions: dict[str, EvasionScores]
    seconds: dict[str, float]


@dataclass(slots=True)
class _Said:
    """What one detector said: of the folds that it was fitted for, and of all, by number."""

    parts: dict[int, FoldScores] = field(default_factory=dict)
    scores: dict[int, Scores | DetectorError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scorer:
    """Fits and scores the detectors of a plan on what its organisms did."""

    plan: Plan
    access: OrganismAccess
    twins: Twins
    progress: Progress

    def problem(self, fold: Fold) -> str | None:
        """Why a detector cannot be fitted and scored on a fold, or None if it can."""
        found = {
            label_of(twin)
            for name in fold.fit
            for twin in self._twins_of(name, "fit", fold.fit_cues)
        }
        for label in ("faking", "sincere"):
            if label not in found:
                return f"the fit side has no {label} case"
        return None if fold.test else "no organism is left to test"

    def run(self, folds: Sequence[Fold], robustness: Mapping[str, Sequence[Fold]]) -> Scoring:
        """Every detector on every fold; a fold of an evasion takes a fit that is there already."""
        every = [*folds, *(fold for of_kind in robustness.values() for fold in of_kind)]
        fits = fits_of(every, len(folds))
        rows: dict[int, Rows] = {}
        said: dict[str, _Said | DetectorError] = {}
        seconds: dict[str, float] = {}
        self.progress.start("detectors", len(self.plan.detectors) * len(fits))
        for plugin in self.plan.detectors:
            started = time.perf_counter()
            said[plugin.name] = self._detector(plugin, every, fits, len(folds), rows)
            seconds[plugin.name] = time.perf_counter() - started
        return Scoring(
            folds=tuple(folds),
            rows=tuple(rows[number] for number in range(len(folds))),
            outcomes={
                name: one
                if isinstance(one, DetectorError)
                else [one.parts[number] for number in range(len(folds))]
                for name, one in said.items()
            },
            evasions=_by_evasion(robustness, len(folds), rows, said),
            seconds=seconds,
        )

    def _detector(
        self,
        plugin: Plugin[DetectorManifest],
        every: Sequence[Fold],
        fits: Sequence[tuple[int, ...]],
        headline: int,
        rows: dict[int, Rows],
    ) -> _Said | DetectorError:
        """What one detector says; the rows of the test cases are put down on the way.

        The error of a fold of the headline makes all its scores void, and the cases are gone
        through all the same: the rows belong to every detector.
        """
        said = _Said()
        make, broken = _factory(plugin)
        for numbers in fits:
            first, *others = (every[number] for number in numbers)
            handles = self.access.handles(plugin.manifest, [*first.fit, *first.test])
            fit = self._cases(first.fit, "fit", first.fit_cues, handles)
            tests = [self._cases(first.test, "test", first.test_cues, handles)]
            for fold in others:
                # Handles of its own: what it costs must not show in the cost of the headline.
                own = self.access.handles(plugin.manifest, fold.test)
                tests.append(self._cases(fold.test, "test", fold.test_cues, own))
            rows |= {number: test.rows for number, test in zip(numbers, tests, strict=True)}
            if make is not None and broken is None:
                try:
                    part = self._fold(plugin, make, fit, tests, handles)
                except DetectorError as error:
                    if numbers[0] < headline:
                        broken = error
                    said.scores |= dict.fromkeys(numbers, error)
                else:
                    said.parts[numbers[0]] = part
                    given = (part.scores, *part.further)
                    said.scores |= dict(zip(numbers, given, strict=True))
            self.progress.advance("detectors", 1)
        if broken is not None:
            self.progress.say(str(broken))
        return broken or said

    def _fold(
        self,
        plugin: Plugin[DetectorManifest],
        make: Callable[[], Detector],
        fit: CaseSet,
        tests: Sequence[CaseSet],
        handles: Mapping[str, Handle],
    ) -> FoldScores:
        return run_fold(
            plugin.name,
            make,
            plugin.manifest.limits.seconds,
            fit.where(lambda row: row.scored),
            tests[0],
            self._families(),
            handles,
            tests[1:],
        )

    def _cases(
        self,
        names: Sequence[str],
        partition: Partition,
        cue_families: Partition | None,
        handles: Mapping[str, Handle],
    ) -> CaseSet:
        cues = {
            name: {cue.id: cue for cue in self.plan.environment_of(name).cues} for name in names
        }
        evidence = [
            Evidence(
                name,
                self.access.digest(name),
                tuple(self._twins_of(name, partition, cue_families)),
            )
            for name in names
        ]
        show = self.plan.settings.show_reasoning
        return assemble(evidence, handles, cues, show_reasoning=show).where(
            lambda row: row.label in ("faking", "sincere", "deviant")
        )

    def _twins_of(
        self, name: str, partition: Partition, cue_families: Partition | None
    ) -> list[Twin]:
        """The twins of an organism, of all cues or of one partition's families."""
        cues = {cue.id: cue for cue in self.plan.environment_of(name).cues}
        return [
            twin
            for twin in self.twins[name][partition]
            if cue_families is None or cues[twin.observed.cue].family_partition == cue_families
        ]

    def _families(self) -> dict[str, str]:
        return {
            name: f"{plugin.manifest.environment}/{plugin.manifest.recipe_family}"
            for name, plugin in self.plan.organisms.items()
        }


def _factory(
    plugin: Plugin[DetectorManifest],
) -> tuple[Callable[[], Detector] | None, DetectorError | None]:
    """What makes a detector, or why nothing does."""
    try:
        return detector_factory(plugin), None
    except DetectorError as error:
        return None, error


def fits_of(folds: Sequence[Fold], headline: int) -> list[tuple[int, ...]]:
    """Numbers of folds that one fit serves, the one that it is made for first.

    Args:
        headline: so many folds come first and have a fit of their own each; the others take the
            fit of a fold with the same fit side.
    """
    groups: list[list[int]] = []
    of_side: dict[object, list[int]] = {}
    for number, fold in enumerate(folds):
        side = (fold.fit, fold.fit_cues)
        if number < headline or side not in of_side:
            groups.append([number])
            of_side.setdefault(side, groups[-1])
        else:
            of_side[side].append(number)
    return [tuple(group) for group in groups]


def _by_evasion(
    robustness: Mapping[str, Sequence[Fold]],
    start: int,
    rows: Mapping[int, Rows],
    said: Mapping[str, _Said | DetectorError],
) -> dict[str, EvasionScores]:
    """The folds from `start` on, sorted back to their evasions."""
    found = {}
    for evasion, folds in robustness.items():
        numbers = range(start, start + len(folds))
        found[evasion] = EvasionScores(
            tuple(folds),
            tuple(rows[number] for number in numbers),
            {name: _joined(one, numbers) for name, one in said.items()},
        )
        start += len(folds)
    return found


def _joined(said: _Said | DetectorError, numbers: Sequence[int]) -> Scores | DetectorError:
    """Scores of some folds end to end, or the first error among them."""
    if isinstance(said, DetectorError):
        return said
    parts: list[Scores] = []
    for number in numbers:
        scores = said.scores[number]
        if isinstance(scores, DetectorError):
            return scores
        parts.append(scores)
    return np.concatenate(parts)
