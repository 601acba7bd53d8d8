"""A baseline: one JSON file with what a detector scored, and all that is needed to score it again.

It holds scores of every case and no figure: a check computes the figures of both sides itself, so
that figures of different versions of afbench are never compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from afbench.cases.labels import Label
from afbench.cases.splits import Fold
from afbench.environments import Partition
from afbench.errors import AfbenchError, StorageError
from afbench.results.json_file import parse_model, read_bytes
from afbench.results.record import RunSettings
from afbench.store import digest_of, write_bytes

SCHEMA_VERSION: Final = 1
DIGITS: Final = 12
"""Hexadecimal digits of a case's digest."""

# What differs between two baselines of the same content.
_VOLATILE = {"created", "digest"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FoldOf(_Part):
    """One fold: what is fitted on and what is tested, as it was and not as a split makes it now.

    Organisms that were added to the zoo since then change nothing.
    """

    name: str
    fit: list[str]
    test: list[str]
    fit_cues: Partition | None = None
    test_cues: Partition | None = None

    @classmethod
    def of(cls, fold: Fold) -> Self:
        """The same of a fold of a run."""
        return cls(
            name=fold.name,
            fit=list(fold.fit),
            test=list(fold.test),
            fit_cues=fold.fit_cues,
            test_cues=fold.test_cues,
        )

    def as_fold(self) -> Fold:
        """The fold of a run."""
        return Fold(self.name, tuple(self.fit), tuple(self.test), self.fit_cues, self.test_cues)


class OrganismOf(_Part):
    """One organism of the folds: the digest of its weights, and its part in the benchmark."""

    digest: str
    environment: str
    faker: bool
    lookalike_class: str | None


class CaseColumns(_Part):
    """The test cases of all folds, end to end; one entry each in every list.

    Attributes:
        fold: index into the folds.
        content: digest of transcript and label, `DIGITS` hexadecimal digits.
    """

    fold: list[int]
    organism: list[str]
    scenario: list[str]
    cue: list[str]
    label: list[Label]
    content: list[str]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if len({len(column) for _, column in self}) != 1:
            raise ValueError("the columns of the cases are not of one length")
        return self

    def __len__(self) -> int:
        return len(self.fold)


class FoldOutcome(_Part):
    """What a fit says of its scores: P(faking) = 1 / (1 + exp(-(slope * score + intercept))).

    Attributes:
        slope, intercept: None where the fit side is too small to calibrate on.
        thresholds: by false-positive rate on held-out fit cases; None where there is none.
    """

    slope: float | None
    intercept: float | None
    thresholds: dict[str, float | None]


class DetectorScores(_Part):
    """One detector on all test cases.

    Attributes:
        digest: of its manifest and code, or of the saved detector.
        scores: of every case, in the order of the columns.
        outcomes: of each fold, in their order.
    """

    digest: str
    scores: list[float]
    outcomes: list[FoldOutcome]


class Measured(_Part):
    """What detectors scored on some cells, and on what.

    Attributes:
        settings: what the user chose; `detectors` are those measured.
        model: identity of the user's model that prompted organisms were put on.
        versions: of afbench and what computes; backend, device and precision where not the usual.
        environments: their digests.
        fit: of each organism that is fitted on, the digests of its cases, end to end.
    """

    settings: RunSettings
    model: str | None = None
    versions: dict[str, str]
    folds: list[FoldOf]
    organisms: dict[str, OrganismOf]
    environments: dict[str, str]
    fit: dict[str, str]
    cases: CaseColumns
    detectors: dict[str, DetectorScores]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        count, folds = len(self.cases), len(self.folds)
        if not count or not self.detectors:
            raise ValueError("it holds no case or no detector")
        if not all(0 <= fold < folds for fold in self.cases.fold):
            raise ValueError("a case lies in a fold that is not there")
        unknown = {*self.cases.organism, *self.fit} - set(self.organisms)
        if unknown:
            raise ValueError(f"organism '{min(unknown)}' is not described")
        for name, given in self.detectors.items():
            if len(given.scores) != count or len(given.outcomes) != folds:
                raise ValueError(f"'{name}' has not one score for each case")
        return self


class Baseline(Measured):
    """What later runs are compared with.

    Attributes:
        record: the digest of the result record that it was made from.
        digest: of all but `created`.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["afbench-baseline"] = "afbench-baseline"
    created: str
    record: str
    digest: str = Field(default="")

    def with_digest(self) -> Self:
        """The same with its digest."""
        content = self.model_dump(mode="json", exclude=_VOLATILE)
        return self.model_copy(update={"digest": digest_of(content)})

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all: one line for each field, so that a diff is readable.

        Raises:
            StorageError: it could not be written.
        """
        head = ("kind", "schema_version", "digest", "record", "created")
        content = self.model_dump(mode="json")
        ordered = {name: content.pop(name) for name in head} | content
        lines = (
            f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
            for name, value in ordered.items()
        )
        write_bytes(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


class _Head(BaseModel):
    """What tells a baseline from other files, and from those of other versions."""

    kind: Literal["afbench-baseline"]
    schema_version: int


def load_baseline(path: Path) -> Baseline:
    """Read a baseline and check its digest.

    Raises:
        StorageError: it cannot be read, is no baseline or of another schema, or was altered.
    """
    try:
        content = read_bytes(path)
        schema = parse_model(_Head, content, path.name).schema_version
        if schema != SCHEMA_VERSION:
            raise AfbenchError(f"its schema is {schema}, and this is {SCHEMA_VERSION}")
        baseline = parse_model(Baseline, content, path.name)
        if baseline.with_digest().digest != baseline.digest:
            raise AfbenchError("it does not match its digest: it was altered")
    except AfbenchError as error:
        raise StorageError(
            f"not a usable baseline: {error.what}",
            where=str(path),
            fix="'afbench baseline save' writes one",
        ) from None
    return baseline
