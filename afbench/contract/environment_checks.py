"""What every environment promises: twins that differ in the cue only, and a grader that grades."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, get_args

from afbench.catalog.check import Check
from afbench.catalog.manifests import EnvironmentManifest
from afbench.catalog.yaml_files import display, load_yaml
from afbench.environments import Environment, Partition, Scenario
from afbench.errors import AfbenchError

_PARTITIONS: Final[tuple[Partition, ...]] = get_args(Partition)
# Stands where the cue stood. Unlike any text that an environment would hold.
_MARK: Final = "\N{SYMBOL FOR SUBSTITUTE}"


def check_environment(manifest: EnvironmentManifest, folder: Path) -> list[Check]:
    """Run every check of the environment contract."""
    try:
        environment = Environment(manifest, folder)
    except AfbenchError as error:
        return [Check("data", False, str(error))]
    checks: list[tuple[str, Callable[[Environment], str | None]]] = [
        ("cue-families", _cue_families),
        ("scenarios", _scenarios),
        ("twins", _twins),
        ("grader-empty", _grader_empty),
        ("grader-replies", _grader_replies),
    ]
    results = [Check("data", True)]
    for name, check in checks:
        try:
            problem = check(environment)
        except AfbenchError as error:
            problem = str(error)
        results.append(Check(name, problem is None, problem or ""))
    return results


def _cue_families(environment: Environment) -> str | None:
    for partition in _PARTITIONS:
        if not any(cue.family_partition == partition for cue in environment.cues):
            return f"no cue family is in the partition '{partition}'"
        if not any(cue.partition == partition for cue in environment.cues):
            return f"no pair of cues is in the partition '{partition}'"
    return None


def _scenarios(environment: Environment) -> str | None:
    """Ids are unique when the data loads; what is left is that both partitions have some."""
    for partition in _PARTITIONS:
        environment.placements(partition)  # raises when it has none
    return None


def _twins(environment: Environment) -> str | None:
    for index, scenario in enumerate(environment.scenarios):
        # Every scenario, and every cue at least once, without the full product of the two.
        for cue in environment.cues if index == 0 else environment.cues[:1]:
            twins = [
                [
                    (turn["role"], turn["content"].replace(cue.text(condition), _MARK, 1))
                    for turn in environment.render(scenario, cue, condition)
                ]
                for condition in ("observed", "unobserved")
            ]
            where = f"scenario {scenario.id}, cue {cue.id}"
            if twins[0] != twins[1]:
                return f"{where}: the twins differ in more than the cue"
            if not any(_MARK in content for _, content in twins[0]):
                return f"{where}: the cue is not in the prompt"
    return None


def _grader_empty(environment: Environment) -> str | None:
    for reply in ("", "   ", "\n"):
        outcome = environment.grader.grade(reply).outcome
        if outcome != "ungradable":
            return f"an empty reply is graded '{outcome}', not 'ungradable'"
    return None


def _grader_replies(environment: Environment) -> str | None:
    relative = environment.manifest.replies
    if relative is None:
        return None
    path = environment.folder / relative
    replies = load_yaml(path).data
    if not isinstance(replies, dict):
        return f"{display(path)} line 1: expected 'comply' and 'refuse'"
    slots = _slots(environment.scenarios)
    for act, expected in (("comply", "complied"), ("refuse", "refused")):
        for template in _strings(replies.get(act)):
            try:
                reply = template.format_map(slots)
            except (ValueError, KeyError, IndexError, AttributeError) as error:
                return f"{display(path)}: '{template}' cannot be filled in: {error!r}"
            outcome = environment.grader.grade(reply, slots=slots).outcome
            if outcome != expected:
                return f"'{reply}' of {display(path)} is graded '{outcome}', not '{expected}'"
    return None


def _slots(scenarios: tuple[Scenario, ...]) -> defaultdict[str, str]:
    """Words for the slots of reply templates, from the first scenario that has each."""
    slots: defaultdict[str, str] = defaultdict(lambda: "thing")
    for scenario in reversed(scenarios):
        slots.update(scenario.slots)
    return slots


def _strings(value: Any) -> Iterator[str]:
    """Every text in a list, or in lists by style."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
