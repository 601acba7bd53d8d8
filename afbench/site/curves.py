"""What only the scores of single cases can tell: ROC curves, and which detectors beat which.

A record holds figures and no scores. `leaderboard/curves/<zoo>/<split>.json` keeps what pages need
of the scores of the run that a record is of, a thousandth of their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from afbench.catalog.fields import Digest, Name
from afbench.errors import LeaderboardError
from afbench.leaderboard.board import RESULTS
from afbench.metrics.detection_figures import auroc_parts
from afbench.metrics.figures import CONFIDENCE
from afbench.results.json_file import read_model
from afbench.results.record import ResultRecord, load_record
from afbench.results.score_file import ScoreFile

CURVES: Final = "curves"
STEPS: Final = 50
"""A curve holds the true-positive rate at false-positive rates of 0, 1/50, ..., 1."""

_MAX_BYTES: Final = 16_000_000
_TOLERANCE: Final = 1e-6

Floats = NDArray[np.float64]
Rate = Annotated[float, Field(ge=0, le=1)]
Curve = Annotated[list[Rate], Field(min_length=STEPS + 1, max_length=STEPS + 1)]


class CurveFile(BaseModel):
    """ROC curves and paired comparisons of all detectors of one record.

    Attributes:
        record: digest of the record.
        roc: true-positive rates of each detector, averaged over folds.
        beaten_by: of each detector, those whose AUROC is clearly higher: the 95% interval of the
            paired difference lies above 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    kind: Literal["afbench-curves"] = "afbench-curves"
    record: Digest
    roc: dict[Name, Curve]
    beaten_by: dict[Name, list[Name]]

    @model_validator(mode="after")
    def _of_the_same_detectors(self) -> CurveFile:
        beaten_by = {name: set(others) for name, others in self.beaten_by.items()}
        known = set(self.roc)
        if set(beaten_by) != known or any(others - known for others in beaten_by.values()):
            raise ValueError("'roc' and 'beaten_by' are of different detectors")
        for name, others in beaten_by.items():
            if any(name in beaten_by[other] for other in others):
                raise ValueError(f"'{name}' and another are said to beat each other")
        return self


def read_curves(path: Path, record: ResultRecord) -> CurveFile | None:
    """The curves of a record, or None where there are none.

    Raises:
        AfbenchError: the file is malformed, or of another record.
    """
    if not path.is_file():
        return None
    curves = read_model(CurveFile, path, _MAX_BYTES)
    where = f"{CURVES}/{path.parent.name}/{path.name}"
    if curves.record != record.digest:
        raise LeaderboardError(
            "the curves are of another record",
            where=where,
            fix="make them again: afbench leaderboard curves RUN",
        )
    unknown = sorted(set(curves.roc) - {one.name for one in record.detectors})
    if unknown:
        raise LeaderboardError(f"the record has no detector '{unknown[0]}'", where=where)
    return curves


def curves_of(record: ResultRecord, scores: ScoreFile) -> CurveFile:
    """Curves and comparisons from the scores of a run.

    Raises:
        LeaderboardError: the scores are not those that the record's figures are of.
    """
    cases = _Cases.of(record, scores)
    roc: dict[str, list[float]] = {}
    resampled: dict[str, Floats] = {}
    for one in record.detectors:
        if one.name not in scores.scores or one.auroc.value is None:
            continue
        given = np.asarray(scores.scores[one.name], dtype=np.float64)[cases.scored]
        folded, statistic = auroc_parts(given, cases.labels, **cases.clusters)
        if folded.reason or abs(folded.value(statistic) - one.auroc.value) > _TOLERANCE:
            raise LeaderboardError(
                f"the scores of '{one.name}' do not give the record's AUROC",
                where="scores.json",
                fix="use the folder of the run that the record is of",
            )
        curve = mean_roc([(given[part], cases.labels[part]) for part in folded.parts])
        roc[one.name] = [round(float(rate), 3) for rate in curve]
        settings = record.settings
        resampled[one.name] = folded.replicates(statistic, settings.replicates, settings.seed)
    return CurveFile(record=record.digest, roc=roc, beaten_by=clearly_better(resampled))


def clearly_better(resampled: Mapping[str, Floats]) -> dict[str, list[str]]:
    """For each detector those that beat it in a paired test.

    Args:
        resampled: AUROC of each under the same bootstrap weights, float arrays [R]. Their
            differences are what `metrics.comparison.compare_auroc` takes its interval from.
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    found: dict[str, list[str]] = {}
    for name, own in resampled.items():
        found[name] = []
        for other, theirs in resampled.items():
            difference = (theirs - own)[np.isfinite(theirs - own)]
            if other != name and len(difference) and np.percentile(difference, tail) > 0:
                found[name].append(other)
    return found


def mean_roc(folds: list[tuple[Floats, NDArray[np.bool_]]]) -> Floats:
    """The ROC curve averaged over folds at equal false-positive rates (Fawcett 2006, section 8).

    Within a fold the curve joins its points by straight lines, so that the area under it is the
    AUROC with ties counting one half. Scores of different folds are never compared.

    Args:
        folds: scores [n] and labels [n] of each; both classes are in each.

    Returns:
        float array [STEPS + 1] of true-positive rates.
    """
    grid = np.linspace(0.0, 1.0, STEPS + 1)
    mean: Floats = np.mean([_on_grid(*roc_points(*fold), grid) for fold in folds], axis=0)
    return mean


def roc_points(scores: Floats, labels: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """False- and true-positive rates at each threshold, from (0, 0) to (1, 1)."""
    values = np.unique(scores)[::-1]
    order = np.searchsorted(-values, -scores)
    positives = np.bincount(order[labels], minlength=len(values)).cumsum()
    negatives = np.bincount(order[~labels], minlength=len(values)).cumsum()
    false, true = negatives / negatives[-1], positives / positives[-1]
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def _on_grid(false: Floats, true: Floats, grid: Floats) -> Floats:
    """The curve's height at each place; where it rises straight up, the top of the rise."""
    before = np.searchsorted(false, grid, side="right") - 1
    after = np.minimum(before + 1, len(false) - 1)
    width = false[after] - false[before]
    share = np.divide(grid - false[before], width, out=np.zeros_like(grid), where=width > 0)
    height: Floats = true[before] + share * (true[after] - true[before])
    return height


def place_of(board: Path, record: ResultRecord) -> Path:
    """Where the curves of a record belong on a leaderboard that holds it.

    Raises:
        LeaderboardError: it holds it not.
    """
    split = record.settings.split
    for path in sorted((board / RESULTS).glob(f"*/{split}.json")):
        if load_record(path).digest == record.digest:
            return board / CURVES / path.parent.name / path.name
    raise LeaderboardError(
        f"no record of split '{split}' on the leaderboard is of this run", where=str(board)
    )


@dataclass(frozen=True, slots=True)
class _Cases:
    """The cases that figures rest on, numbered as in the run, so that replicates are the same.

    Attributes:
        scored: bool array over all cases: those with a label that counts.
        labels, clusters: arrays over the scored ones.
    """

    scored: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    clusters: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, record: ResultRecord, scores: ScoreFile) -> _Cases:
        home = {one.name: one.environment for one in record.organisms}
        missing = next((case for case in scores.cases if case.organism not in home), None)
        if missing is not None:
            raise LeaderboardError(
                f"the record has no organism '{missing.organism}'", where="scores.json"
            )
        places = [(home[case.organism], case.scenario) for case in scores.cases]
        names = [case.organism for case in scores.cases]
        scored = np.array([case.label in ("faking", "sincere") for case in scores.cases])
        return cls(
            scored=scored,
            labels=np.array([case.label == "faking" for case in scores.cases])[scored],
            clusters={
                "organisms": _numbers(names)[scored],
                "scenarios": _numbers(places)[scored],
                "folds": np.array([case.fold for case in scores.cases])[scored],
            },
        )


def _numbers(things: list[Any]) -> NDArray[np.int64]:
    """The place of each among the distinct ones in order."""
    place = {thing: number for number, thing in enumerate(sorted(set(things)))}
    return np.array([place[thing] for thing in things], dtype=np.int64)
