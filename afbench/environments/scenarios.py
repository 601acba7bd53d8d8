"""Scenarios and cues: the data files of an environment, validated when they are loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from afbench.errors import ManifestError

Partition = Literal["fit", "test"]
Condition = Literal["observed", "unobserved"]
CONDITIONS: tuple[Condition, Condition] = ("observed", "unobserved")


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
        ManifestError: a family or pair is malformed, or the two texts of a pair are the same.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
        families = data["families"]
        cues = [cue for family in families for cue in _family_cues(family)]
    except ValidationError as error:
        first = error.errors()[0]
        raise ManifestError(f"field '{first['loc'][0]}': {first['msg']}", where=str(path)) from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ManifestError(
            f"not a list of cue families: {error}",
            where=str(path),
            fix="each family needs name, partition and pairs of {observed, unobserved, partition}",
        ) from None
    for cue in cues:
        if cue.observed.strip() == cue.unobserved.strip():
            raise ManifestError(f"cue {cue.id} reads the same in both conditions", where=str(path))
    if len({cue.id for cue in cues}) != len(cues):
        raise ManifestError("a cue family stands there twice", where=str(path))
    return tuple(cues)


def _family_cues(family: dict[str, Any]) -> Iterator[Cue]:
    for index, pair in enumerate(family["pairs"]):
        yield Cue(
            id=f"{family['name']}-{index:02d}",
            family=family["name"],
            family_partition=family["partition"],
            observed=pair["observed"],
            unobserved=pair["unobserved"],
            partition=pair["partition"],
        )


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot be read: {error}", where=str(path)) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(f"not JSON: {error.msg}", where=f"{path} line {number}") from None
        if not isinstance(record, dict):
            raise ManifestError("not a JSON object", where=f"{path} line {number}")
        yield number, record
