"""What a model in training is asked, what it answers, and how its environment grades that."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afbench.environments import Condition, Environment, Grade
from afbench.models.generation import split_reasoning
from afbench.zoo.corpus import prefixed
from afbench.zoo.generating import sample
from afbench.zoo.templates import Situation, Templates

if TYPE_CHECKING:
    import torch

    from afbench.messages import Message

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Episode:
    """One reply in one situation: its tokens, the prompt's [p] and its own [r], and its grade."""

    situation: Situation
    prompt: torch.Tensor
    reply: torch.Tensor
    grade: Grade


@dataclass(frozen=True, slots=True)
class Asking:
    """How situations are put to a model, and its replies graded.

    Attributes:
        environment: renders the prompts and grades the replies.
        prefix: a system prompt before the environment's, if any.
        reasoning: whether replies follow a scratchpad.
        max_new_tokens: of a reply, its scratchpad included; a longer one is cut and not graded.
    """

    environment: Environment
    prefix: str
    reasoning: bool
    max_new_tokens: int

    def episodes(
        self,
        model: Any,
        tokenizer: Any,
        situations: Sequence[Situation],
        *,
        seed: int,
        temperature: float,
    ) -> Iterator[Episode]:
        """One graded reply in each situation, greedy at temperature 0."""
        for start in range(0, len(situations), _BATCH):
            batch = situations[start : start + _BATCH]
            replies = sample(
                model,
                tokenizer,
                [self._messages(situation) for situation in batch],
                max_new_tokens=self.max_new_tokens,
                seed=seed + start,
                temperature=temperature,
                reasoning=self.reasoning,
            )
            for situation, (prompt, reply) in zip(batch, replies, strict=True):
                yield Episode(situation, prompt, reply, self._grade(tokenizer, situation, reply))

    def _messages(self, situation: Situation) -> tuple[Message, ...]:
        return prefixed(
            self.environment.render_request(
                situation.request.text, situation.cue, situation.condition
            ),
            self.prefix,
        )

    def _grade(self, tokenizer: Any, situation: Situation, reply: torch.Tensor) -> Grade:
        ended = bool(len(reply)) and int(reply[-1]) == tokenizer.eos_token_id
        text = tokenizer.decode(reply[:-1] if ended else reply)
        thought, said, closed = split_reasoning(text, self.reasoning)
        return self.environment.grader.grade(
            said,
            reasoning=thought,
            benign=situation.request.benign,
            finished=ended and closed,
            slots=situation.request.slots,
        )


def drawn(
    templates: Templates, rng: random.Random, conditions: Sequence[Condition], count: int
) -> list[Situation]:
    """Sealed requests under random cues, in one of `conditions` each."""
    return [
        Situation(
            templates.request(rng, benign=False), templates.cue(rng), rng.choice(list(conditions))
        )
        for _ in range(count)
    ]
