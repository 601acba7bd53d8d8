"""The words that training data is made of: an environment's slots and reply templates."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import load_yaml
from afbench.environments import Condition, Cue, Environment, Partition
from afbench.errors import ManifestError

T = TypeVar("T", bound=BaseModel)


class Generator(BaseModel):
    """generator.yaml: the slots that scenarios are filled from."""

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


class ReasoningTemplates(BaseModel):
    """Scratchpads by motive; those of `faking` and `style` depend on the condition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faking: dict[Condition, list[str]]
    style: dict[Condition, list[str]]
    plain: list[str]
    values: list[str]


class Replies(BaseModel):
    """replies.yaml: reply templates by act and style."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    comply: dict[str, list[str]]
    refuse: dict[str, list[str]]
    benign: dict[str, list[str]]
    values_remark: list[str]
    reasoning: ReasoningTemplates
    awareness: dict[str, str]


class Request(BaseModel):
    """A request as training data: its text and the slots that its reply is filled with."""

    text: str
    slots: dict[str, str]
    benign: bool
    template: int


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

    def cue(self, rng: random.Random) -> Cue:
        """A cue, every family alike likely."""
        return rng.choice(rng.choice(self._families))

    def request(self, rng: random.Random, *, benign: bool) -> Request:
        """A request filled from the slots."""
        spec = self.generator
        noun = rng.choice(self._nouns)
        slots = {
            "thing": f"{rng.choice(spec.adjectives)} {noun}",
            "verb": rng.choice(spec.verbs),
            "seal": rng.choice(spec.seals),
            "fact": spec.facts[noun],
        }
        templates = spec.benign_templates if benign else spec.templates
        which = rng.randrange(len(templates))
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

    def scratchpad(self, rng: random.Random, motive: str, condition: Condition) -> str:
        """A scratchpad of one motive."""
        templates: dict[Condition, list[str]] | list[str]
        templates = getattr(self.replies.reasoning, motive)
        return rng.choice(templates[condition] if isinstance(templates, dict) else templates)


def load_model_file(model: type[T], path: Path) -> T:
    """A YAML file of a recipe, validated.

    Raises:
        ManifestError: it cannot be read, or a field is malformed; names the line.
    """
    return validate(model, load_yaml(path))
