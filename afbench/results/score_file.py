"""Scores of every case beside a record, so that every figure can be computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from afbench.cases.labels import Label
from afbench.cases.splits import Fold
from afbench.errors import DetectorError
from afbench.results.case_source import Rows
from afbench.results.json_file import read_model
from afbench.results.scoring import Scoring
from afbench.store import write_json

NAME = "scores.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ScoredCase(_Part):
    """One test case: its place in the run and its label."""

    fold: int = Field(ge=0)
    organism: str
    scenario: str
    cue: str
    label: Label


class ScoredFolds(_Part):
    """The names of folds, their test cases end to end, and each detector's scores of them."""

    folds: list[str]
    cases: list[ScoredCase]
    scores: dict[str, list[float]]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        numbers = [case.fold for case in self.cases]
        if numbers != sorted(numbers) or any(number >= len(self.folds) for number in numbers):
            raise ValueError("the cases are not those of the folds, end to end")
        for name, scores in self.scores.items():
            if len(scores) != len(self.cases):
                raise ValueError(f"{len(scores)} scores of '{name}' for {len(self.cases)} cases")
        return self


class ScoreFile(ScoredFolds):
    """scores.json: the headline's folds, and those of each evasion."""

    robustness: dict[str, ScoredFolds] = {}


def read_scores(path: Path) -> ScoreFile:
    """Read a scores.json.

    Raises:
        AfbenchError: it cannot be read, or is malformed.
    """
    return read_model(ScoreFile, path)


def save_scores(folder: Path, scoring: Scoring) -> str:
    """Write the scores of a run to a folder, and give the file's name.

    Raises:
        StorageError: it could not be written.
    """
    headline = {
        name: np.concatenate([part.scores for part in parts])
        for name, parts in scoring.outcomes.items()
        if not isinstance(parts, DetectorError)
    }
    content = {
        **_content(scoring.folds, scoring.rows, headline),
        "robustness": {
            evasion: _content(given.folds, given.rows, given.scores)
            for evasion, given in scoring.evasions.items()
        },
    }
    write_json(folder / NAME, content)
    return NAME


def _content(
    folds: Sequence[Fold],
    rows: Sequence[Rows],
    scores: Mapping[str, NDArray[np.float64] | DetectorError],
) -> dict[str, Any]:
    """The names of folds, their test cases end to end, and each detector's scores of them."""
    return {
        "folds": [fold.name for fold in folds],
        "cases": [
            {
                "fold": number,
                "organism": row.organism,
                "scenario": row.twin.scenario,
                "cue": row.twin.observed.cue,
                "label": row.label,
            }
            for number, of_fold in enumerate(rows)
            for row in of_fold
        ],
        "scores": {
            name: given.tolist()
            for name, given in scores.items()
            if not isinstance(given, DetectorError)
        },
    }
