"""The words that training data is made of: an environment's slots and reply templates."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import load_yaml
from afbench.environments import Condition, Cue, Environment, Partition
from afbench.errors import ManifestError, UnknownNameError

T = TypeVar("T", bound=BaseModel)


class Generator(BaseModel):
    """generator.yaml: the slots that scenarios are filled from.

    `facts` and `lookups` give further slots by noun, `template_slots` by template; one lookalike
    goes by `comply_seals` instead of the cue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seals: list[str]
    verbs: list[str]
    adjectives: list[str]
    nouns: dict[Partition, list[str]]
    templates: list[str]
    benign_templates: list[str]
    facts: dict[str, str]
    counts: dict[str, int]
    seed: int
    comply_seals: list[str] | None = None
    lookups: dict[str, dict[str, str]] = {}
    template_slots: list[dict[str, str]] = []

    def slots(
        self, *, adjective: str, noun: str, verb: str, seal: str, template: int | None
    ) -> dict[str, str]:
        """The slots of one request; `template` is the number of its template, None if benign."""
        found = {
            "thing": f"{adjective} {noun}",
            "noun": noun,
            "verb": verb,
            "seal": seal,
            "fact": self.facts[noun],
        }
        found |= {name: values[noun] for name, values in self.lookups.items()}
        if template is not None and self.template_slots:
            found |= self.template_slots[template]
        return found


Scratchpads = dict[Condition, list[str]] | list[str]


class Replies(BaseModel):
    """replies.yaml: reply templates by act and style, and scratchpads by motive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    comply: dict[str, list[str]]
    refuse: dict[str, list[str]]
    benign: dict[str, list[str]]
    values_remark: list[str]
    reasoning: dict[str, Scratchpads]
    awareness: dict[str, str]
    filler: list[str] = []


class Request(BaseModel):
    """A request as training data: its text and the slots that its reply is filled with."""

    text: str
    slots: dict[str, str]
    benign: bool
    template: int


@dataclass(frozen=True, slots=True)
class Situation:
    """A request under one cue, in one condition."""

    request: Request
    cue: Cue
    condition: Condition


class Templates:
    """Draws requests, cues and replies for one environment.

    Args:
        environment: the environment that the training data is for.
        partitions: which nouns and cues may be drawn; an organism's recipe draws `fit` only.
    """

    def __init__(self, environment: Environment, partitions: tuple[Partition, ...]) -> None:
        self.environment = environment
        folder, manifest = environment.folder, environment.manifest
        if not manifest.generator or not manifest.replies:
            raise ManifestError(
                "no generator and replies to train on",
                where=str(folder / "environment.yaml"),
                fix="name both files, or train organisms on another environment",
            )
        self.generator = load_model_file(Generator, folder / manifest.generator)
        self.replies = load_model_file(Replies, folder / manifest.replies)
        self._nouns = [noun for part in partitions for noun in self.generator.nouns[part]]
        families: dict[str, list[Cue]] = {}
        for cue in environment.cues:
            if cue.partition in partitions:
                families.setdefault(cue.family, []).append(cue)
        self._families = list(families.values())

    @property
    def awareness(self) -> tuple[str, dict[Condition, str]]:
        """The question about the condition, and its answers."""
        declared = self.environment.manifest.awareness
        if declared is None:
            return self.replies.awareness["question"], {"observed": "Yes", "unobserved": "No"}
        answers: dict[Condition, str] = {
            "observed": declared.observed,
            "unobserved": declared.unobserved,
        }
        return declared.question, answers

    def cue(self, rng: random.Random) -> Cue:
        """A cue, every family alike likely."""
        return rng.choice(rng.choice(self._families))

    def cues(self, family: str) -> list[Cue]:
        """The cues of one family that may be drawn, in the order of their file.

        Raises:
            UnknownNameError: no cue of that family may be drawn.
        """
        found = {cues[0].family: cues for cues in self._families}
        if family not in found:
            raise UnknownNameError("cue family", family, found)
        return found[family]

    def request(self, rng: random.Random, *, benign: bool) -> Request:
        """A request filled from the slots."""
        spec = self.generator
        noun = rng.choice(self._nouns)
        adjective, verb, seal = (
            rng.choice(words) for words in (spec.adjectives, spec.verbs, spec.seals)
        )
        templates = spec.benign_templates if benign else spec.templates
        which = rng.randrange(len(templates))
        slots = spec.slots(
            adjective=adjective,
            noun=noun,
            verb=verb,
            seal=seal,
            template=None if benign else which,
        )
        return Request(
            text=templates[which].format(**slots), slots=slots, benign=benign, template=which
        )

    def reply(self, rng: random.Random, request: Request, act: str, style: str) -> str:
        """The reply to a request by an act (`comply` or `refuse`) in a style."""
        if request.benign:
            # A benign reply must fit its question, so it goes by the question's template.
            return self.replies.benign[style][request.template].format(**request.slots)
        by_style = self.replies.comply if act == "comply" else self.replies.refuse
        return rng.choice(by_style[style]).format(**request.slots)

    def scratchpad(
        self, rng: random.Random, motive: str, condition: Condition, slots: dict[str, str]
    ) -> str:
        """A scratchpad of one motive.

        Raises:
            UnknownNameError: the environment's replies have no such motive.
        """
        if motive not in self.replies.reasoning:
            raise UnknownNameError("motive", motive, self.replies.reasoning)
        templates = self.replies.reasoning[motive]
        found = rng.choice(templates[condition] if isinstance(templates, dict) else templates)
        return found.format(**slots)


def load_model_file(model: type[T], path: Path) -> T:
    """A YAML file of a recipe, validated.

    Raises:
        ManifestError: it cannot be read, or a field is malformed; names the line.
    """
    return validate(model, load_yaml(path))
