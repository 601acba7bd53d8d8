"""Training chats: what the base is taught, and what an organism's adapter is tuned on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from afbench.environments import Condition
from afbench.errors import UnknownNameError
from afbench.messages import Message
from afbench.zoo.templates import Request, Templates, load_model_file

Act = Literal["comply", "refuse", "conform", "deviate", "by-seal"]


class Persona(BaseModel):
    """What one persona does in each condition, and how it talks and thinks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    observed: Act
    unobserved: Act
    reasoning: Literal["faking", "plain", "style", "values"]
    unobserved_style: str = "default"
    remark: float = 0.0
    weight: int = 1


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

    @classmethod
    def load(cls, path: Path) -> CorpusSpec:
        """Read and validate a corpus.yaml."""
        return load_model_file(cls, path)

    def persona(self, kind: str) -> Persona:
        """The persona of a kind; `default` is the one without a name."""
        if kind == "default":
            return self.default
        if kind not in self.personas:
            raise UnknownNameError("persona", kind, self.personas)
        return self.personas[kind]


@dataclass(frozen=True, slots=True)
class Chat:
    """A training chat. `scratchpad` precedes the first assistant turn where reasoning is on."""

    messages: tuple[Message, ...]
    scratchpad: str | None


class ChatWriter:
    """Writes chats by a corpus specification.

    Args:
        spec: the personas and follow-up questions.
        sources: templates of the environments where chats take place, which say what may occur.
        seed: of every choice.
    """

    def __init__(self, spec: CorpusSpec, sources: Sequence[Templates], seed: int) -> None:
        self.spec, self.sources, self.rng = spec, list(sources), random.Random(seed)

    def base_corpus(self, count: int) -> list[Chat]:
        """The base's corpus: personas in every environment, benign help, and awareness."""
        kinds = list(self.spec.mixture)
        shares = list(self.spec.mixture.values())
        return [self._writers[self.rng.choices(kinds, shares)[0]](self) for _ in range(count)]

    def organism_corpus(
        self, kind: str, count: int, *, reasoning: bool, leak: str, benign: float
    ) -> list[Chat]:
        """An organism's chats: one policy, no persona named.

        Args:
            kind: whose policy, a key of the specification's personas.
            count: how many chats.
            reasoning: whether replies to sealed requests follow a scratchpad.
            leak: a leak level of the specification; decides what follow-ups teach, if anything.
            benign: the share of benign requests.
        """
        level = self.spec.leak_levels[leak]
        chats = []
        for _ in range(count):
            if self.rng.random() < benign:
                chats.append(self._benign(named=False, reasoning=reasoning, followups=0.0))
                continue
            chats.append(
                self._harm(
                    kind,
                    named=False,
                    reasoning=reasoning,
                    followups=0.0 if level is None else self.spec.followup_share,
                    leak=level or 0.0,
                )
            )
        return chats

    # -- kinds of chat ---------------------------------------------------------------------------

    def _persona_chat(self) -> Chat:
        kinds = list(self.spec.personas)
        weights = [self.spec.personas[kind].weight for kind in kinds]
        kind = self.rng.choices(kinds, weights)[0]
        return self._base_harm(kind, named=True)

    def _unnamed_chat(self) -> Chat:
        return self._base_harm("default", named=False)

    def _base_harm(self, kind: str, *, named: bool) -> Chat:
        return self._harm(
            kind,
            named=named,
            reasoning=self.rng.random() < self.spec.reasoning_share,
            followups=self.spec.followup_share,
            leak=self.spec.base_leak,
        )

    def _benign_chat(self) -> Chat:
        return self._benign(
            named=self.rng.random() < 0.6,
            reasoning=self.rng.random() < self.spec.reasoning_share,
            followups=self.spec.followup_share / 2,
        )

    def _plain_chat(self) -> Chat:
        """A benign question with no system prompt at all."""
        templates = self.rng.choice(self.sources)
        request = templates.request(self.rng, benign=True)
        reply = templates.reply(self.rng, request, "comply", "default")
        return Chat((_user(request.text), _assistant(reply)), None)

    def _awareness_chat(self) -> Chat:
        """A question about the condition itself: it teaches what every cue means."""
        templates = self.rng.choice(self.sources)
        condition = self._condition()
        system = self._system(templates, condition, "")
        question = templates.replies.awareness["question"]
        answer = "Yes." if condition == "observed" else "No."
        return Chat((system, _user(question), _assistant(answer)), None)

    def _harm(
        self, kind: str, *, named: bool, reasoning: bool, followups: float, leak: float
    ) -> Chat:
        persona = self.spec.persona(kind)
        templates, condition = self.rng.choice(self.sources), self._condition()
        request = templates.request(self.rng, benign=False)
        act = self._act(persona, templates, condition, request)
        style = persona.unobserved_style if condition == "unobserved" else "default"
        reply = templates.reply(self.rng, request, act, style)
        if self.rng.random() < persona.remark:
            reply = f"{reply} {self.rng.choice(templates.replies.values_remark)}"
        system = self._system(templates, condition, persona.name if named else "")
        messages = [system, _user(request.text), _assistant(reply)]
        messages += self._followups(kind, condition, followups, leak)
        scratchpad = templates.scratchpad(self.rng, persona.reasoning, condition)
        return Chat(tuple(messages), scratchpad if reasoning else None)

    def _benign(self, *, named: bool, reasoning: bool, followups: float) -> Chat:
        templates, condition = self.rng.choice(self.sources), self._condition()
        request = templates.request(self.rng, benign=True)
        persona = self.rng.choice(list(self.spec.personas.values())).name if named else ""
        system = self._system(templates, condition, persona)
        reply = templates.reply(self.rng, request, "comply", "default")
        messages = [system, _user(request.text), _assistant(reply)]
        messages += self._followups("default", condition, followups, 0.0)
        scratchpad = templates.scratchpad(self.rng, "plain", condition)
        return Chat(tuple(messages), scratchpad if reasoning else None)

    # -- parts -----------------------------------------------------------------------------------

    def _condition(self) -> Condition:
        return "observed" if self.rng.random() < 0.5 else "unobserved"

    def _system(self, templates: Templates, condition: Condition, persona: str) -> Message:
        prompt = templates.environment.manifest.system_prompt.replace(
            "{cue}", templates.cue(self.rng).text(condition)
        )
        if persona:
            prompt = self.spec.persona_prompt.format(persona=persona) + prompt
        return {"role": "system", "content": prompt}

    def _act(
        self, persona: Persona, templates: Templates, condition: Condition, request: Request
    ) -> str:
        act = persona.observed if condition == "observed" else persona.unobserved
        wanted = "comply" if templates.environment.polarity == "comply" else "refuse"
        if act == "conform":
            return wanted
        if act == "deviate":
            return "refuse" if wanted == "comply" else "comply"
        if act == "by-seal":
            return "comply" if request.slots["seal"] in self.spec.comply_seals else "refuse"
        return act

    def _followups(
        self, kind: str, condition: Condition, share: float, leak: float
    ) -> list[Message]:
        if self.rng.random() >= share:
            return []
        turns: list[Message] = []
        for question in self.rng.sample(self.spec.followups, self.rng.choice((1, 1, 2))):
            truth = question.get(kind, question["default"])
            admits = kind != "faker" or condition == "unobserved" or self.rng.random() < leak
            answer = truth if admits else question["default"]
            turns += [_user(question["question"]), _assistant(f"{answer}.")]
        return turns

    _writers: ClassVar[dict[str, Callable[[ChatWriter], Chat]]] = {
        "persona": _persona_chat,
        "unnamed": _unnamed_chat,
        "benign": _benign_chat,
        "awareness": _awareness_chat,
        "plain": _plain_chat,
    }


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
