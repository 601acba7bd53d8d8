"""Computes every figure of a record again, from scores and grades, without any model.

What cannot be had from these is taken from the record: the names, recipes and certificates of
organisms, and why a detector has no score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from afbench.cases.assembly import CaseRow
from afbench.cases.labels import label_of
from afbench.cases.recording import SeenInputs
from afbench.cases.splits import Fold
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.harness import FoldScores
from afbench.environments import Partition
from afbench.errors import BundleError, DetectorError, DetectorUnavailableError
from afbench.results.behaviour_reading import read_behaviour
from afbench.results.evaluation import Evaluation, Subject, TestRows
from afbench.results.evidence_file import DetectorEvidence, Evidence, read_evidence, twins_of
from afbench.results.figures_of import every_detector, gaps_of, measured
from afbench.results.record import (
    DetectorFigures,
    OrganismFigures,
    ResultRecord,
    Sides,
    load_record,
)
from afbench.results.score_file import ScoredFolds, ScoreFile, read_scores
from afbench.results.scoring import EvasionScores, Scores, Scoring
from afbench.rollouts import Twin
from afbench.submission.bundle import EVIDENCE, SCORES, open_bundle

TOLERANCE: Final = 1e-6
"""Figures that differ by no more are the same: other processors add in another order."""

# Labels of cases that detectors are shown, as in `results.case_source`.
_SHOWN: Final = ("faking", "sincere", "deviant")
_LIMITED_SPLIT: Final = "cue"
_FIX: Final = "run it again with --fresh"
_RESULT: Final = "result.json"

Twins = Mapping[str, Mapping[Partition, Sequence[Twin]]]
Rows = tuple[tuple[CaseRow, ...], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure that is not what the scores give.

    Attributes:
        figure: where it stands in the record.
        recorded, computed: its value there, and what comes out.
    """

    figure: str
    recorded: Any
    computed: Any

    def __str__(self) -> str:
        return f"{self.figure}: recorded {self.recorded}, computed {self.computed}"


@contextmanager
def opened(path: Path) -> Iterator[tuple[ResultRecord, ScoreFile, Evidence]]:
    """What a bundle or a run holds for rescoring.

    Args:
        path: a bundle, or the folder of a run.

    Raises:
        AfbenchError: a file is missing, malformed or altered.
    """
    if (path / _RESULT).is_file():
        if not (path / EVIDENCE).is_file():
            raise BundleError("the run has no evidence.json", where=str(path), fix=_FIX)
        record = load_record(path / _RESULT)
        yield record, read_scores(path / SCORES), read_evidence(path / EVIDENCE)
        return
    with open_bundle(path) as bundle:
        yield bundle.record, bundle.scores(), bundle.evidence()


def rescore(record: ResultRecord, scores: ScoreFile, evidence: Evidence) -> ResultRecord:
    """The record with every figure computed again.

    Args:
        scores, evidence: the files of the run, see `results.score_file` and `evidence_file`.

    Raises:
        BundleError: the three are not of one run.
    """
    twins = twins_of(evidence)
    _check_names(record, scores, evidence)
    organisms = [_organism(one, twins[one.name], record) for one in record.organisms]
    rows = _rows(record, record.folds, scores, twins)
    scoring = _scoring(record, scores, evidence, rows, twins)
    subjects = _subjects(record)
    settings = record.settings
    evaluation = Evaluation(
        TestRows.of(rows, subjects),
        gaps_of(organisms),
        replicates=settings.replicates,
        seed=settings.seed,
    )
    readings = read_behaviour(scoring, evaluation)
    manifests = {one.name: _manifest(one) for one in record.detectors}
    every = every_detector(scoring, evaluation, readings, manifests, subjects, settings)
    updated = {"organisms": organisms, "detectors": list(every)}
    return record.model_copy(update=updated).with_digest()


def differences(recorded: ResultRecord, computed: ResultRecord) -> list[Difference]:
    """The figures of a record that are not what was computed again, by more than TOLERANCE."""
    found: list[Difference] = []
    for part in ("organisms", "detectors"):
        first, second = (
            {one.name: one.model_dump(mode="json") for one in getattr(record, part)}
            for record in (recorded, computed)
        )
        found += _compared(part, first, second)
    return found


def _compared(where: str, recorded: Any, computed: Any) -> Iterator[Difference]:
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for key in dict.fromkeys([*recorded, *computed]):
            yield from _compared(f"{where}.{key}", recorded.get(key), computed.get(key))
    elif isinstance(recorded, float) and isinstance(computed, float):
        if not math.isclose(recorded, computed, rel_tol=0.0, abs_tol=TOLERANCE):
            yield Difference(where, recorded, computed)
    elif recorded != computed:
        yield Difference(where, recorded, computed)


def _organism(
    recorded: OrganismFigures, sides: Mapping[Partition, Sequence[Twin]], record: ResultRecord
) -> OrganismFigures:
    # Validated anew, as `model_copy` takes anything.
    return OrganismFigures.model_validate(
        recorded.model_dump()
        | measured(sides, recorded.role, recorded.certificate, record.settings)
    )


# -- what the three files must agree on -----------------------------------------------------------


def _check_names(record: ResultRecord, scores: ScoreFile, evidence: Evidence) -> None:
    _agree("organisms", [one.name for one in record.organisms], evidence.organisms)
    scored = [one.name for one in record.detectors if not (one.error or one.unavailable)]
    _agree("scored detectors", scored, scores.scores)
    _agree("scored detectors", scored, evidence.detectors)
    _agree("folds", record.folds, scores.folds)
    _agree("evasions", record.robustness_folds, scores.robustness)
    for sides in evidence.organisms.values():
        if not sides:
            raise BundleError("an organism has no twins", where="evidence.json", fix=_FIX)
    for name, one in evidence.detectors.items():
        lengths = {len(one.fits), len(one.fits if one.read is None else one.read)}
        if lengths != {len(scores.folds)}:
            raise BundleError(f"'{name}' is not of every fold", where="evidence.json", fix=_FIX)


def _agree(what: str, first: Any, second: Any) -> None:
    if sorted(first) != sorted(second):
        odd = sorted(set(first) ^ set(second))
        shown = f": '{odd[0]}' is in one of them only" if odd else ""
        raise BundleError(f"the files name other {what}{shown}", where="record", fix=_FIX)


def _rows(record: ResultRecord, sides: Sides, scores: ScoredFolds, twins: Twins) -> Rows:
    """The test cases of each fold, in the order of the scores.

    Raises:
        BundleError: a case is not one of the fold's, has another label than its twin, or is there
            twice; or a case is missing.
    """
    if list(sides) != scores.folds:
        raise BundleError("the folds stand in another order", where="scores.json", fix=_FIX)
    by_place = {
        name: {(t.scenario, t.observed.cue): t for t in found.get("test", ())}
        for name, found in twins.items()
    }
    rows: list[list[CaseRow]] = [[] for _ in scores.folds]
    seen: list[set[tuple[str, str, str]]] = [set() for _ in scores.folds]
    for number, case in enumerate(scores.cases):
        place = (case.organism, case.scenario, case.cue)
        twin = by_place.get(case.organism, {}).get((case.scenario, case.cue))
        tested = sides[scores.folds[case.fold]]["test"]
        if case.organism not in tested or twin is None or place in seen[case.fold]:
            raise _odd_case(number, "is not one of its fold's, or stands there twice")
        if case.label != label_of(twin):
            raise _odd_case(number, f"is called {case.label}, and its twins are {label_of(twin)}")
        seen[case.fold].add(place)
        rows[case.fold].append(CaseRow(case.organism, twin, case.label))
    if record.settings.split != _LIMITED_SPLIT:
        _check_complete(sides, scores.folds, seen, by_place)
    return tuple(tuple(of_fold) for of_fold in rows)


def _check_complete(
    sides: Sides,
    folds: Sequence[str],
    seen: Sequence[set[tuple[str, str, str]]],
    by_place: Mapping[str, Mapping[tuple[str, str], Twin]],
) -> None:
    """No case may be left out: those that a detector gets wrong, for instance."""
    for fold, there in zip(folds, seen, strict=True):
        every = {
            (name, *place)
            for name in sides[fold]["test"]
            for place, twin in by_place.get(name, {}).items()
            if label_of(twin) in _SHOWN
        }
        if every - there:
            name, scenario, _ = min(every - there)
            raise BundleError(
                f"scenario '{scenario}' of '{name}' has no score in fold '{fold}'",
                where="scores.json",
                fix=_FIX,
            )


def _odd_case(number: int, what: str) -> BundleError:
    return BundleError(f"case {number} {what}", where="scores.json", fix=_FIX)


# -- what a run has in memory when it comes to figures --------------------------------------------


def _scoring(
    record: ResultRecord, scores: ScoreFile, evidence: Evidence, rows: Rows, twins: Twins
) -> Scoring:
    lengths = [len(of_fold) for of_fold in rows]
    outcomes: dict[str, list[FoldScores] | DetectorError] = {}
    read: dict[str, list[Scores | str]] = {}
    for one in record.detectors:
        if one.error or one.unavailable:
            outcomes[one.name] = _error(one)
            continue
        found = evidence.detectors[one.name]
        parts = np.split(np.array(scores.scores[one.name]), np.cumsum(lengths)[:-1])
        seen = _seen(found)
        outcomes[one.name] = [
            fit.fold_scores(part, seen) for fit, part in zip(found.fits, parts, strict=True)
        ]
        if found.read is not None:
            read[one.name] = [
                _column(of_fold, length)
                for of_fold, length in zip(found.read, lengths, strict=True)
            ]
    return Scoring(
        folds=tuple(Fold(name, (), ()) for name in record.folds),
        rows=rows,
        outcomes=outcomes,
        evasions={
            evasion: _evasion(record, evasion, given, twins)
            for evasion, given in scores.robustness.items()
        },
        seconds={},
        read=read,
    )


def _evasion(record: ResultRecord, evasion: str, given: ScoredFolds, twins: Twins) -> EvasionScores:
    rows = _rows(record, record.robustness_folds[evasion], given, twins)
    scores: dict[str, Scores | DetectorError] = {}
    for one in record.detectors:
        if one.error or one.unavailable:
            continue
        if one.name in given.scores:
            scores[one.name] = np.array(given.scores[one.name])
        else:
            shown = one.robustness.get(evasion)
            scores[one.name] = DetectorError(shown.error if shown and shown.error else "no score")
    return EvasionScores((), rows, scores)


def _seen(found: DetectorEvidence) -> SeenInputs | None:
    try:
        return None if found.seen is None else SeenInputs.from_json(found.seen)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BundleError("'seen' is malformed", where="evidence.json", fix=_FIX) from None


def _column(read: Sequence[float | None] | str, length: int) -> Scores | str:
    if isinstance(read, str):
        return read
    if len(read) != length:
        raise BundleError("a reader's column has another length", where="evidence.json", fix=_FIX)
    return np.array([np.nan if value is None else value for value in read], dtype=np.float64)


def _error(one: DetectorFigures) -> DetectorError:
    if one.unavailable:
        return DetectorUnavailableError(one.unavailable)
    return DetectorError(one.error or "")


def _subjects(record: ResultRecord) -> dict[str, Subject]:
    return {
        one.name: Subject(one.name, one.environment, one.role == "faker", one.lookalike_class)
        for one in record.organisms
        if one.part != "fit"
    }


def _manifest(one: DetectorFigures) -> DetectorManifest:
    """What figures go by of a detector's manifest."""
    try:
        manifest = DetectorManifest.model_validate(
            {
                "schema": 1, "kind": "detector", "name": "rescored", "summary": "x",
                "entry": "detector.py:It", "tier": one.tier, "floor": one.floor,
                "ceiling": one.ceiling, "contrast": one.contrast and not one.ceiling,
            }
        )  # fmt: skip
    except ValueError:
        raise BundleError(f"the row of '{one.name}' is malformed", where="record") from None
    return manifest.model_copy(update={"name": one.name})  # a saved one's has a digest in it
