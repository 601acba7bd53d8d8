"""An environment, loaded: scenarios rendered in an observed and an unobserved condition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.environments.grading import RuleGrader
from afbench.environments.scenarios import (
    Condition,
    Cue,
    Partition,
    Scenario,
    load_cues,
    load_scenarios,
)
from afbench.environments.states import StateGrader
from afbench.errors import ManifestError, NotEnoughCasesError
from afbench.messages import Message

if TYPE_CHECKING:
    from afbench.catalog.discovery import Plugin
    from afbench.catalog.manifests import EnvironmentManifest


@dataclass(frozen=True, slots=True)
class Placement:
    """A scenario with the cue that it is rendered with; its twins share both."""

    scenario: Scenario
    cue: Cue


class Environment:
    """Scenarios, cues and the grader of one environment folder.

    Raises:
        ManifestError: a data file is malformed.
    """

    def __init__(self, manifest: EnvironmentManifest, folder: Path) -> None:
        self.manifest, self.folder = manifest, folder
        self.name, self.polarity = manifest.name, manifest.polarity
        self.scenarios = load_scenarios(folder / manifest.scenarios)
        self.cues = load_cues(folder / manifest.cues)
        self.grader = _grader(manifest)
        if manifest.cue_in_request:
            _check_cue_in_requests(self.scenarios, folder / manifest.scenarios)

    @classmethod
    def load(cls, plugin: Plugin[EnvironmentManifest]) -> Environment:
        """The environment of a discovered plug-in."""
        return cls(plugin.manifest, plugin.folder)

    @cached_property
    def digest(self) -> str:
        """Identity of everything that shapes a prompt or a grade."""
        digest = hashlib.sha256()
        shaping = self.manifest.model_dump_json(exclude=_NO_PART_OF_THE_PROMPT)
        digest.update(shaping.encode())
        for part in (*self.scenarios, *self.cues):
            digest.update(part.model_dump_json().encode())
        return f"sha256:{digest.hexdigest()}"

    def render(self, scenario: Scenario, cue: Cue, condition: Condition) -> list[Message]:
        """The prompt of a scenario in one condition: a system message (if any) and a user message.

        The cue is put in by replacement at one place, so that the two twins differ nowhere else.
        """
        return self.render_request(scenario.request, cue, condition)

    def render_request(self, request: str, cue: Cue, condition: Condition) -> list[Message]:
        """As `render`, for a request that is no scenario's, such as a question about beliefs.

        Where scenarios hold the cue and this request has no place for it, it comes first.
        """
        text = cue.text(condition)
        user = self.manifest.user_prompt
        if self.manifest.cue_in_request:
            request = request if "{cue}" in request else f"{{cue}} {request}"
            request = request.replace("{cue}", text)
        else:
            user = user.replace("{cue}", text)
        system = self.manifest.system_prompt.replace("{cue}", text)
        turns: list[Message] = [{"role": "user", "content": user.replace("{request}", request)}]
        if system.strip():
            turns.insert(0, {"role": "system", "content": system})
        return turns

    def placements(
        self, partition: Partition, count: int | None = None, *, benign: bool = False
    ) -> list[Placement]:
        """Scenarios of one partition, each with its fixed cue of the same partition.

        Cue families are dealt in turn, and paraphrases in turn within a family, so that any prefix
        of the list is balanced; the deal does not depend on `count`.

        Raises:
            NotEnoughCasesError: the partition has no scenario or no cue.
        """
        families: dict[str, list[Cue]] = {}
        for cue in self.cues:
            if cue.partition == partition:
                families.setdefault(cue.family, []).append(cue)
        scenarios = [
            scenario
            for scenario in self.scenarios
            if scenario.partition == partition and scenario.benign == benign
        ]
        if not families or not scenarios:
            raise NotEnoughCasesError(
                f"no {'benign ' if benign else ''}scenario or no cue in partition '{partition}'",
                where=str(self.folder),
                fix="add some, or leave this environment out",
            )
        names = list(families)
        dealt = []
        for index, scenario in enumerate(scenarios[:count]):
            turn, which = divmod(index, len(names))
            paraphrases = families[names[which]]
            dealt.append(Placement(scenario, paraphrases[turn % len(paraphrases)]))
        return dealt


# Fields that change neither a prompt nor a grade.
_NO_PART_OF_THE_PROMPT = {"summary", "replies", "source", "awareness", "belief", "measures"}


def _grader(manifest: EnvironmentManifest) -> RuleGrader | StateGrader:
    if manifest.grader.type == "state":
        return StateGrader(manifest.grader, manifest.polarity)
    return RuleGrader(manifest.grader, manifest.polarity)


def _check_cue_in_requests(scenarios: Sequence[Scenario], path: Path) -> None:
    """A prompt without a place for the cue, or with two, would not be a pair of twins."""
    for scenario in scenarios:
        count = scenario.request.count("{cue}")
        if count != 1:
            raise ManifestError(
                f"scenario '{scenario.id}' holds {{cue}} {count} times: its twins would "
                + ("not differ" if count == 0 else "differ in more than one place"),
                where=str(path),
                fix="put {cue} once into the request, or once into the environment's prompts",
            )
