"""Stage 3 of a run: what each detector says of every fold, in this process or in several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from afbench.cases.handle import Budget
from afbench.cases.splits import Fold
from afbench.detection.harness import FoldScores
from afbench.detection.loading import detector_factory
from afbench.errors import DetectorError
from afbench.results.case_source import CaseSource, Rows
from afbench.results.fold_runner import FoldRunner, Said
from afbench.results.progress import Progress
from afbench.results.reader import Reader
from afbench.results.score_cache import ScoreCache
from afbench.results.workers import Task, Workers

if TYPE_CHECKING:
    from afbench.sandbox.host import DetectorFactory

Scores = NDArray[np.float64]


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
        read: of each detector that is compared with a reader of behaviour, what that made of each
            fold, or why it made nothing.
    """

    folds: tuple[Fold, ...]
    rows: tuple[Rows, ...]
    outcomes: dict[str, list[FoldScores] | DetectorError]
    evasions: dict[str, EvasionScores]
    seconds: dict[str, float]
    read: dict[str, list[Scores | str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Record:
    """What one detector said: of the folds that it was fitted for, and of all, by number."""

    parts: dict[int, FoldScores] = field(default_factory=dict)
    scores: dict[int, Scores | DetectorError] = field(default_factory=dict)
    read: dict[int, Scores | str] = field(default_factory=dict)
    broken: tuple[int, DetectorError] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Scorer:
    """Fits and scores the detectors of a plan on what its organisms did.

    Args:
        source: makes the cases.
        progress: is told of every fit.
        cache: where scores are kept; None keeps none.
        workers: processes that share the work; None is this one alone.
        reader: what detectors are compared with; None compares none.
        factory: makes the detectors that this process scores; workers have their own.
    """

    source: CaseSource
    progress: Progress
    cache: ScoreCache | None = None
    workers: Workers | None = None
    reader: Reader | None = None
    factory: DetectorFactory = detector_factory

    def run(self, folds: Sequence[Fold], robustness: Mapping[str, Sequence[Fold]]) -> Scoring:
        """Every detector on every fold; a fold of an evasion takes a fit that is there already.

        The error of a fold of the headline makes all of a detector's scores void.
        """
        every = [*folds, *(fold for of_kind in robustness.values() for fold in of_kind)]
        plugins = self.source.plan.detectors
        records = {plugin.name: _Record() for plugin in plugins}
        # All detectors on one fold, then on the next: they ask for the same activations.
        tasks = [
            Task(
                plugin.name,
                numbers,
                tuple(every[number] for number in numbers),
                sum(number < len(folds) for number in numbers),
            )
            for numbers in fits_of(every)
            for plugin in plugins
        ]
        self.progress.start("detectors", len(tasks))
        for task, said in self._said(tasks, records):
            _take(records[task.detector], task.numbers, said, len(folds))
            self.progress.advance("detectors", 1)
        for record in records.values():
            if record.broken is not None:
                self.progress.say(str(record.broken[1]))
        return Scoring(
            folds=tuple(folds),
            rows=tuple(self.source.rows(fold) for fold in folds),
            outcomes={
                name: record.broken[1]
                if record.broken is not None
                else [record.parts[number] for number in range(len(folds))]
                for name, record in records.items()
            },
            evasions=self._by_evasion(robustness, len(folds), records),
            seconds={name: record.seconds for name, record in records.items()},
            read={
                name: [record.read[number] for number in range(len(folds))]
                for name, record in records.items()
                if record.read and record.broken is None
            },
        )

    def _said(
        self, tasks: Sequence[Task], records: Mapping[str, _Record]
    ) -> Iterator[tuple[Task, Said]]:
        """What comes of the tasks, in any order; of those of a broken detector, some or none."""

        def wanted(task: Task) -> bool:
            return records[task.detector].broken is None

        if self.workers is not None:
            yield from self.workers.run(tasks, self.source, wanted)
            return
        plugins = {plugin.name: plugin for plugin in self.source.plan.detectors}
        runner = FoldRunner(self.source, self.cache, self.reader, self.factory)
        for task in filter(wanted, tasks):
            yield task, runner.run(plugins[task.detector], task.folds, task.headline)

    def _by_evasion(
        self, robustness: Mapping[str, Sequence[Fold]], start: int, records: Mapping[str, _Record]
    ) -> dict[str, EvasionScores]:
        """The folds from `start` on, sorted back to their evasions."""
        found = {}
        for evasion, folds in robustness.items():
            numbers = range(start, start + len(folds))
            found[evasion] = EvasionScores(
                tuple(folds),
                tuple(self.source.rows(fold) for fold in folds),
                {name: _joined(record, numbers) for name, record in records.items()},
            )
            start += len(folds)
        return found


def _take(record: _Record, numbers: Sequence[int], said: Said, headline: int) -> None:
    """Put down what a detector said of some folds; the first of them has the fit."""
    record.seconds += said.seconds
    if isinstance(said.outcome, DetectorError):
        # Of several errors the first fold's counts, in whatever order they come in.
        if numbers[0] < headline and (record.broken is None or numbers[0] < record.broken[0]):
            record.broken = numbers[0], said.outcome
        record.scores |= dict.fromkeys(numbers, said.outcome)
        return
    record.read |= dict(zip(numbers, said.read, strict=False))  # the headline's come first
    given = (said.outcome.scores, *said.outcome.further)
    record.scores |= dict(zip(numbers, given, strict=True))
    for place, (number, scores) in enumerate(zip(numbers, given, strict=True)):
        if number >= headline:
            continue
        if isinstance(scores, DetectorError):
            if record.broken is None or number < record.broken[0]:
                record.broken = number, scores
        elif place == 0:
            record.parts[number] = said.outcome
        else:  # the fit, and all that it cost, is with the first of them
            record.parts[number] = replace(
                said.outcome, scores=scores, spent=Budget(), seconds=0.0, fits=0, further=()
            )


def fits_of(folds: Sequence[Fold]) -> list[tuple[int, ...]]:
    """Numbers of folds that one fit serves, as they have the same fit side, in their order."""
    of_side: dict[object, list[int]] = {}
    for number, fold in enumerate(folds):
        of_side.setdefault((fold.fit, fold.fit_cues), []).append(number)
    return [tuple(group) for group in of_side.values()]


def _joined(record: _Record, numbers: Sequence[int]) -> Scores | DetectorError:
    """Scores of some folds end to end, or the first error among them."""
    if record.broken is not None:
        return record.broken[1]
    parts: list[Scores] = []
    for number in numbers:
        scores = record.scores[number]
        if isinstance(scores, DetectorError):
            return scores
        parts.append(scores)
    return np.concatenate(parts)
