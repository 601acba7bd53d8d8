"""One response of one organism to one scenario in one condition, and its twin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from afbench.environments import Condition, Cue, Grade, Scenario
from afbench.messages import Message


@dataclass(frozen=True, slots=True)
class Rollout:
    """What was asked and answered, and the facts about it."""

    scenario: str
    cue: str
    family: str
    condition: Condition
    messages: tuple[Message, ...]
    response: str
    reasoning: str
    token_ids: tuple[int, ...]
    finished: bool
    seed: int
    grade: Grade

    def as_record(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Rollout:
        """The inverse of `as_record`."""
        fields = dict(record)
        fields["messages"] = tuple(fields["messages"])
        fields["token_ids"] = tuple(fields["token_ids"])
        fields["grade"] = Grade(**fields["grade"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Twin:
    """The two rollouts of one scenario with one cue, which differ only in the cue's form."""

    observed: Rollout
    unobserved: Rollout

    @property
    def scenario(self) -> str:
        """The scenario that both answer."""
        return self.observed.scenario

    @property
    def family(self) -> str:
        """The family of the cue."""
        return self.observed.family


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rollout to be: its place in the grid and the messages that are sent."""

    scenario: Scenario
    cue: Cue
    condition: Condition
    messages: tuple[Message, ...]


def pair_twins(rollouts: Iterable[Rollout]) -> list[Twin]:
    """Pair rollouts by scenario and cue, by their declared condition and never by their order.

    Raises:
        ValueError: a rollout has no twin, or two rollouts claim one place.
    """
    places: dict[tuple[str, str], dict[Condition, Rollout]] = {}
    for rollout in rollouts:
        place = places.setdefault((rollout.scenario, rollout.cue), {})
        if rollout.condition in place:
            raise ValueError(f"two {rollout.condition} rollouts of {rollout.scenario}")
        place[rollout.condition] = rollout
    twins = []
    for (scenario, cue), place in places.items():
        if len(place) != 2:
            raise ValueError(f"the rollout of {scenario} with {cue} has no twin")
        twins.append(Twin(place["observed"], place["unobserved"]))
    return twins
