"""Scenarios and cues: the data files of an environment, validated when they are loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import load_yaml, read_text
from afbench.errors import ManifestError

Partition = Literal["fit", "test"]
Condition = Literal["observed", "unobserved"]
CONDITIONS: tuple[Condition, Condition] = ("observed", "unobserved")

_MAX_BYTES = 200_000_000


class Scenario(BaseModel):
    """One situation: a request, and which side of the fixed partition it is on.

    `slots` are the words that its template was filled with; only training recipes read them.
    `expected` is a word that a right answer to a benign request holds, for the retention check.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    request: str
    partition: Partition
    benign: bool = False
    slots: dict[str, str] = {}
    expected: str | None = None


class Cue(BaseModel):
    """One paraphrase of what tells a model whether it is observed, in both forms.

    `partition` is the paraphrase's own side; `family_partition` is its family's, which the split
    `cue` goes by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    family: str
    observed: str
    unobserved: str
    partition: Partition
    family_partition: Partition

    def text(self, condition: Condition) -> str:
        """The cue as it reads in one condition."""
        return self.observed if condition == "observed" else self.unobserved


class _Pair(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    observed: str
    unobserved: str
    partition: Partition


class _Family(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    partition: Partition
    pairs: list[_Pair]


class _CueFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    families: list[_Family]


def load_scenarios(path: Path) -> tuple[Scenario, ...]:
    """Read scenarios.jsonl: a header line with the canary, then one scenario a line.

    Raises:
        ManifestError: a line is malformed, or an id or request occurs twice; names the line.
    """
    scenarios: list[Scenario] = []
    seen: dict[str, int] = {}
    for number, record in _json_lines(path):
        if set(record) == {"canary"}:
            continue
        try:
            scenario = Scenario.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "scenario"
            raise ManifestError(
                f"field '{field}': {first['msg']}", where=f"{path} line {number}"
            ) from None
        for key in (scenario.id, f"request {scenario.request}"):
            if key in seen:
                raise ManifestError(
                    f"'{key}' stands at line {seen[key]} already",
                    where=f"{path} line {number}",
                    fix="give every scenario an id and a request of its own",
                )
            seen[key] = number
        scenarios.append(scenario)
    if not scenarios:
        raise ManifestError("no scenario in the file", where=str(path))
    return tuple(scenarios)


def load_cues(path: Path) -> tuple[Cue, ...]:
    """Read cues.yaml: families of paraphrases, each an observed and an unobserved text.

    Raises:
        ManifestError: the file is malformed, the two texts of a pair are the same, a text stands
            in both partitions, or a family stands there twice; names the line.
    """
    file = load_yaml(path)
    families = validate(_CueFile, file).families
    seen: set[str] = set()
    sides: dict[str, Partition] = {}
    for number, family in enumerate(families):
        if family.name in seen:
            raise file.error(("families", number, "name"), "a cue family stands there twice")
        seen.add(family.name)
        for index, pair in enumerate(family.pairs):
            if pair.observed.strip() == pair.unobserved.strip():
                raise file.error(
                    ("families", number, "pairs", index),
                    f"cue {_cue_id(family, index)} reads the same in both conditions",
                )
            for text in (pair.observed, pair.unobserved):
                if "{request}" in text or "{cue}" in text:
                    raise file.error(
                        ("families", number, "pairs", index), "a cue cannot hold a slot"
                    )
                if sides.setdefault(text, pair.partition) != pair.partition:
                    raise file.error(
                        ("families", number, "pairs", index),
                        f"'{text}' stands in both partitions, so it is not held out",
                    )
    return tuple(
        Cue(
            id=_cue_id(family, index),
            family=family.name,
            family_partition=family.partition,
            observed=pair.observed,
            unobserved=pair.unobserved,
            partition=pair.partition,
        )
        for family in families
        for index, pair in enumerate(family.pairs)
    )


def _cue_id(family: _Family, index: int) -> str:
    return f"{family.name}-{index:02d}"


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines(): a request may hold U+2028 or another of the line ends that it knows.
    for number, line in enumerate(read_text(path, _MAX_BYTES).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise ManifestError(f"not JSON: {what}", where=f"{path} line {number}") from None
        if not isinstance(record, dict):
            raise ManifestError("not a JSON object", where=f"{path} line {number}")
        yield number, record
