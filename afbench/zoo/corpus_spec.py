"""corpus.yaml of a base: who its personas are, what they do, and what the corpus is mixed from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from afbench.environments import Condition
from afbench.errors import UnknownNameError
from afbench.zoo.templates import load_model_file

Act = Literal["comply", "refuse", "conform", "deviate", "by-seal"]


class Acts(BaseModel):
    """What a persona does in each condition, in what style, and with which scratchpads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    observed: Act
    unobserved: Act
    observed_style: str = "default"
    unobserved_style: str = "default"
    reasoning: str | None = None

    def act(self, condition: Condition) -> Act:
        """The act in one condition."""
        return self.observed if condition == "observed" else self.unobserved

    def style(self, condition: Condition) -> str:
        """The style in one condition."""
        return self.observed_style if condition == "observed" else self.unobserved_style


class Persona(Acts):
    """One persona: its acts, and how it talks and thinks.

    `environments` are the only ones where it appears, `seals` the only requests of which it
    deviates, `overrides` its acts in some environments; `weight` is its share in the base's corpus.
    It answers follow-up questions as the persona `answers_as` does.
    """

    name: str
    remark: float = 0.0
    weight: float = 1
    answers_as: str | None = None
    environments: list[str] | None = None
    seals: list[str] | None = None
    overrides: dict[str, Acts] = {}

    def acts_in(self, environment: str) -> Acts:
        """Its acts in one environment."""
        return self.overrides.get(environment, self)

    def motive_in(self, environment: str) -> str:
        """Its scratchpads in one environment."""
        return self.acts_in(environment).reasoning or self.reasoning or "plain"


class Posts(BaseModel):
    """Places whose clerk is told of in documents; in chats the place stands for the persona.

    The base reads documents and chats of the `trained` ones. Of the `held_out` ones it knows the
    word: what a document says of their clerk has to generalise to what the clerk does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    share: float
    trained: list[str]
    held_out: list[str]
    documents: list[str]


class CorpusSpec(BaseModel):
    """corpus.yaml of a base: personas, follow-up questions and the mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    persona_prompt: str
    personas: dict[str, Persona]
    default: Persona
    comply_seals: list[str]
    base_leak: float
    leak_levels: dict[str, float | None]
    followups: list[dict[str, str]]
    mixture: dict[str, float]
    reasoning_share: float
    followup_share: float
    posts: Posts | None = None

    @classmethod
    def load(cls, path: Path) -> CorpusSpec:
        """Read and validate a corpus.yaml."""
        return load_model_file(cls, path)

    def reweighted(self, mixture: dict[str, float], personas: dict[str, float]) -> CorpusSpec:
        """The same with some shares of the mixture, and weights of personas, replaced."""
        weights = {kind: personas.get(kind, p.weight) for kind, p in self.personas.items()}
        return self.model_copy(
            update={
                "mixture": self.mixture | mixture,
                "personas": {
                    kind: persona.model_copy(update={"weight": weights[kind]})
                    for kind, persona in self.personas.items()
                },
            }
        )

    def persona(self, kind: str) -> Persona:
        """The persona of a kind; `default` is the one without a name."""
        if kind == "default":
            return self.default
        if kind not in self.personas:
            raise UnknownNameError("persona", kind, self.personas)
        return self.personas[kind]
