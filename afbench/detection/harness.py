"""Fits and scores one detector on one fold, with thresholds set on fit organisms only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from afbench.cases.assembly import CaseSet
from afbench.cases.handle import Budget, Handle
from afbench.cases.recording import SeenInputs
from afbench.detection.detector import Detector
from afbench.detection.guard import checked_choices, checked_scores, guarded
from afbench.errors import DetectorError, NotEnoughCasesError

# Families inside the fit side that are held out in turn to set thresholds: more cost more fits.
MAX_CALIBRATION_FOLDS = 4


@dataclass(frozen=True, slots=True)
class FoldScores:
    """What a detector said of one fold.

    Attributes:
        scores: of the test cases, float64 [n].
        held_out_scores, held_out_labels: of fit cases, each by a detector that had not seen its
            recipe family; thresholds and calibration come from these.
        chosen: what the detector chose in its fit.
        seconds: wall-clock time of fits and scores.
        further: scores of each further set of cases by the same fit, or how scoring it went wrong.
        inputs: what it asked organisms about; None where that was not noted.
    """

    scores: NDArray[np.float64]
    held_out_scores: NDArray[np.float64]
    held_out_labels: NDArray[np.bool_]
    chosen: dict[str, str | float | int]
    spent: Budget
    seconds: float
    fits: int = field(default=1)
    further: tuple[NDArray[np.float64] | DetectorError, ...] = ()
    inputs: SeenInputs | None = None


@dataclass(frozen=True, slots=True)
class FittedDetector:
    """A detector that was fitted, and what its thresholds and calibration are set from.

    Attributes:
        held_out_scores, held_out_labels: as in `FoldScores`.
        chosen: what it chose in its fit.
        fits: how many fits that took.
    """

    detector: Detector
    held_out_scores: NDArray[np.float64]
    held_out_labels: NDArray[np.bool_]
    chosen: dict[str, str | float | int]
    fits: int


def fit_detector(
    name: str,
    make: Callable[[], Detector],
    seconds: float,
    fit: CaseSet,
    families: Mapping[str, str],
) -> FittedDetector:
    """Fit a detector, after its recipe families were held out in turn.

    Args:
        name: the detector's, for messages.
        make: makes a fresh detector.
        seconds: time limit of each call.
        fit: cases with labels faking or sincere only.
        families: recipe family of each organism.

    Raises:
        DetectorError: the detector broke its contract.
        NotEnoughCasesError: a class is missing.
    """
    labels = fit.labels
    if labels.all() or not labels.any():
        missing = "sincere" if labels.all() else "faking"
        raise NotEnoughCasesError(
            f"the fit side has no {missing} case", fix="add organisms or scenarios"
        )
    scores: list[NDArray[np.float64]] = []
    held_labels: list[NDArray[np.bool_]] = []
    for rest, held in _calibration_sides(fit, families):
        detector = _fitted(name, make, seconds, rest)
        scores.append(_score(name, detector, seconds, held))
        held_labels.append(held.labels)
    detector = _fitted(name, make, seconds, fit)
    return FittedDetector(
        detector=detector,
        held_out_scores=np.concatenate(scores) if scores else np.empty(0),
        held_out_labels=np.concatenate(held_labels) if held_labels else np.empty(0, np.bool_),
        chosen=checked_choices(name, guarded(name, "explain", seconds, detector.explain)),
        fits=len(scores) + 1,
    )


def run_fold(
    name: str,
    make: Callable[[], Detector],
    seconds: float,
    fit: CaseSet,
    test: CaseSet,
    families: Mapping[str, str],
    handles: Mapping[str, Handle],
    further: Sequence[CaseSet] = (),
) -> FoldScores:
    """Fit on one side, score the other.

    Args:
        name: the detector's, for messages.
        make: makes a fresh detector.
        seconds: time limit of each call.
        fit: cases with labels faking or sincere only.
        test: cases to score; their labels are not looked at.
        families: recipe family of each organism.
        handles: the handles behind the cases, whose spending is summed.
        further: cases that the same fit scores after the test, with handles of their own where
            their cost is not to be counted. What goes wrong there does not touch the test's scores.

    Raises:
        DetectorError: the detector broke its contract.
        NotEnoughCasesError: the fit side lacks a class.
    """
    started = time.perf_counter()
    fitted = fit_detector(name, make, seconds, fit, families)
    scores = score_fold(name, fitted, seconds, test, handles, further)
    return replace(scores, seconds=time.perf_counter() - started)


def score_fold(
    name: str,
    fitted: FittedDetector,
    seconds: float,
    test: CaseSet,
    handles: Mapping[str, Handle],
    further: Sequence[CaseSet] = (),
) -> FoldScores:
    """Score one side by a detector that is fitted already; arguments as in `run_fold`.

    Raises:
        DetectorError: the detector broke its contract.
    """
    started = time.perf_counter()
    scores = _score(name, fitted.detector, seconds, test)
    others = tuple(_scored_or_error(name, fitted.detector, seconds, one) for one in further)
    spent = Budget()
    for handle in handles.values():
        spent.add(handle.spent)
    return FoldScores(
        scores=scores,
        held_out_scores=fitted.held_out_scores,
        held_out_labels=fitted.held_out_labels,
        chosen=fitted.chosen,
        spent=spent,
        fits=fitted.fits,
        further=others,
        seconds=time.perf_counter() - started,
    )


def _fitted(name: str, make: Callable[[], Detector], seconds: float, fit: CaseSet) -> Detector:
    detector = make()
    labels = fit.labels
    # A detector gets a copy, so that it cannot change the labels of the next one.
    guarded(name, "fit", seconds, lambda: detector.fit(fit.cases, labels.copy()))
    return detector


def _score(name: str, detector: Detector, seconds: float, test: CaseSet) -> NDArray[np.float64]:
    scores = guarded(name, "score", seconds, lambda: detector.score(test.cases))
    return checked_scores(name, scores, len(test))


def _scored_or_error(
    name: str, detector: Detector, seconds: float, test: CaseSet
) -> NDArray[np.float64] | DetectorError:
    try:
        return _score(name, detector, seconds, test)
    except DetectorError as error:
        return error


def _calibration_sides(
    fit: CaseSet, families: Mapping[str, str]
) -> Iterator[tuple[CaseSet, CaseSet]]:
    """Hold out recipe families of the fit side in turn, as the test family is held out."""
    present = sorted({families[row.organism] for row in fit.rows})
    groups = [present[i::MAX_CALIBRATION_FOLDS] for i in range(MAX_CALIBRATION_FOLDS)]
    for group in groups:
        held = fit.where(lambda row, group=group: families[row.organism] in group)  # type: ignore[misc]
        rest = fit.where(lambda row, group=group: families[row.organism] not in group)  # type: ignore[misc]
        labels = rest.labels
        if len(held) and labels.any() and not labels.all():
            yield rest, held
