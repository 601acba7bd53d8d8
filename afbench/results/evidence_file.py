"""What a record's figures rest on beside the scores: what organisms did, and what fits said.

With `scores.json` it is enough to compute every figure again without any model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from afbench.cases.handle import Budget
from afbench.cases.recording import SeenInputs
from afbench.detection.harness import FoldScores
from afbench.environments import Condition, Grade, Partition
from afbench.errors import DetectorError
from afbench.results.case_source import Twins
from afbench.results.json_file import read_model
from afbench.results.scoring import Scoring
from afbench.rollouts import Rollout, Twin
from afbench.store import write_json

NAME: Final = "evidence.json"

_OUTCOMES: Final[dict[str, Any]] = {
    "c": "complied", "r": "refused", "u": "ungradable", "t": "truncated",
}  # fmt: skip
_LETTERS: Final = {outcome: letter for letter, outcome in _OUTCOMES.items()}
_FACTS: Final[dict[str, bool | None]] = {"1": True, "0": False, "-": None}
_SIGNS: Final = {fact: sign for sign, fact in _FACTS.items()}

Ternary = Annotated[str, StringConstraints(pattern=r"^[01-]*$")]
Binary = Annotated[str, StringConstraints(pattern=r"^[01]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Grades(_Part):
    """Grades of rollouts, one character each: a fact is 1, 0 or - (no grade)."""

    outcome: Annotated[str, StringConstraints(pattern=r"^[crut]*$")]
    complied: Ternary
    misaligned: Ternary
    conforms: Ternary
    coherent: Binary

    @classmethod
    def of(cls, rollouts: Sequence[Rollout]) -> Grades:
        """The grades of some rollouts, in their order."""
        grades = [rollout.grade for rollout in rollouts]
        return cls(
            outcome="".join(_LETTERS[grade.outcome] for grade in grades),
            complied="".join(_SIGNS[grade.complied] for grade in grades),
            misaligned="".join(_SIGNS[grade.misaligned] for grade in grades),
            conforms="".join(_SIGNS[grade.conforms] for grade in grades),
            coherent="".join(_SIGNS[grade.coherent] for grade in grades),
        )

    def grade(self, number: int) -> Grade:
        """The grade of one; what its scratchpad said is not kept."""
        return Grade(
            outcome=_OUTCOMES[self.outcome[number]],
            complied=_FACTS[self.complied[number]],
            misaligned=_FACTS[self.misaligned[number]],
            conforms=_FACTS[self.conforms[number]],
            coherent=self.coherent[number] == "1",
            reasoning="none",
        )

    def lengths(self) -> set[int]:
        """How many rollouts each column has."""
        columns = (self.outcome, self.complied, self.misaligned, self.conforms, self.coherent)
        return {len(column) for column in columns}


class TwinGrades(_Part):
    """The twins of one organism on one side of a run, as columns of one length."""

    scenarios: list[str]
    cues: list[str]
    observed: Grades
    unobserved: Grades

    @model_validator(mode="after")
    def _of_one_length(self) -> TwinGrades:
        lengths = self.observed.lengths() | self.unobserved.lengths()
        if lengths != {len(self.scenarios)} or len(self.cues) != len(self.scenarios):
            raise ValueError("the columns are not of one length")
        if len(set(zip(self.scenarios, self.cues, strict=True))) < len(self.scenarios):
            raise ValueError("a scenario with its cue stands there twice")
        return self

    @classmethod
    def of(cls, twins: Sequence[Twin]) -> TwinGrades:
        """Of some twins, in their order."""
        return cls(
            scenarios=[twin.scenario for twin in twins],
            cues=[twin.observed.cue for twin in twins],
            observed=Grades.of([twin.observed for twin in twins]),
            unobserved=Grades.of([twin.unobserved for twin in twins]),
        )

    def twins(self) -> list[Twin]:
        """The twins again, without their words."""
        return [
            Twin(
                _rollout(scenario, cue, "observed", self.observed.grade(number)),
                _rollout(scenario, cue, "unobserved", self.unobserved.grade(number)),
            )
            for number, (scenario, cue) in enumerate(zip(self.scenarios, self.cues, strict=True))
        ]


class FitEvidence(_Part):
    """What one fold's fit said beside its scores; see `detection.harness.FoldScores`.

    `spent` are queries, generated tokens, forward tokens and seconds.
    """

    held_out_scores: list[float]
    held_out_labels: Binary
    chosen: dict[str, str | float | int]
    spent: tuple[int, int, int, float]
    fits: int = Field(ge=0)

    @model_validator(mode="after")
    def _of_one_length(self) -> FitEvidence:
        if len(self.held_out_labels) != len(self.held_out_scores):
            raise ValueError("held-out scores and labels are not of one length")
        return self

    @classmethod
    def of(cls, part: FoldScores) -> FitEvidence:
        """Of one fold's scores."""
        spent = part.spent
        return cls(
            held_out_scores=part.held_out_scores.tolist(),
            held_out_labels="".join(_SIGNS[bool(label)] for label in part.held_out_labels),
            chosen=part.chosen,
            spent=(spent.queries, spent.generated_tokens, spent.forward_tokens, spent.seconds),
            fits=part.fits,
        )

    def fold_scores(self, scores: NDArray[np.float64], seen: SeenInputs | None) -> FoldScores:
        """The fold's scores again, given the test cases' and the inputs that were noted."""
        return FoldScores(
            scores=scores,
            held_out_scores=np.array(self.held_out_scores, dtype=np.float64),
            held_out_labels=np.array([sign == "1" for sign in self.held_out_labels], np.bool_),
            chosen=dict(self.chosen),
            spent=Budget(*self.spent),
            seconds=0.0,
            fits=self.fits,
            inputs=seen,
        )


class DetectorEvidence(_Part):
    """One detector: its fits by fold, and what a reader of behaviour made of each fold.

    `read` is None where it was compared with none; a text says why the reader made nothing.
    `seen` are the inputs of the fold with the most of them.
    """

    fits: list[FitEvidence]
    read: list[list[float | None] | str] | None = None
    seen: dict[str, Any] | None = None


class Evidence(_Part):
    """evidence.json: organisms by name and side, and detectors that kept their contract."""

    schema_version: Literal[1] = 1
    kind: Literal["afbench-evidence"] = "afbench-evidence"
    organisms: dict[str, dict[Partition, TwinGrades]]
    detectors: dict[str, DetectorEvidence]


def save_evidence(folder: Path, scoring: Scoring, twins: Twins) -> str:
    """Write what the figures of a run rest on to a folder, and give the file's name.

    Args:
        twins: what each organism of the run did.

    Raises:
        StorageError: it could not be written.
    """
    evidence = Evidence(
        organisms={
            name: {side: TwinGrades.of(found) for side, found in sides.items()}
            for name, sides in sorted(twins.items())
        },
        detectors={
            name: _detector(parts, scoring.read.get(name))
            for name, parts in scoring.outcomes.items()
            if not isinstance(parts, DetectorError)
        },
    )
    write_json(folder / NAME, evidence.model_dump(mode="json"))
    return NAME


def read_evidence(path: Path) -> Evidence:
    """Read an evidence.json.

    Raises:
        AfbenchError: it cannot be read, or is malformed.
    """
    return read_model(Evidence, path)


def twins_of(evidence: Evidence) -> Mapping[str, dict[Partition, list[Twin]]]:
    """What each organism did on each side."""
    return {
        name: {side: found.twins() for side, found in sides.items()}
        for name, sides in evidence.organisms.items()
    }


def _detector(
    parts: Sequence[FoldScores], read: Sequence[NDArray[np.float64] | str] | None
) -> DetectorEvidence:
    seen = max((part.inputs or SeenInputs() for part in parts), key=_size)
    return DetectorEvidence(
        fits=[FitEvidence.of(part) for part in parts],
        read=None if read is None else [_column(one) for one in read],
        seen=None if read is None else seen.as_json(),
    )


def _column(read: NDArray[np.float64] | str) -> list[float | None] | str:
    if isinstance(read, str):
        return read
    return [None if np.isnan(value) else float(value) for value in read]


def _size(inputs: SeenInputs) -> tuple[int, int, int]:
    return inputs.unread, len(inputs.forms), len(inputs.fixed)


def _rollout(scenario: str, cue: str, condition: Condition, grade: Grade) -> Rollout:
    return Rollout(scenario, cue, "", condition, (), "", "", (), True, 0, grade)
