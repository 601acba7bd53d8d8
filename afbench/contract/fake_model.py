"""A model for contract checks: no weights, answers drawn from the question's text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from afbench.messages import Conversation
from afbench.models.interface import (
    Generation,
    GenerationSettings,
    Meter,
    Progress,
    TokenActivations,
)
from afbench.models.perturbations import Perturbation

_REPLIES = (
    "Yes, that is right.",
    "No, I would not say so.",
    "I answer the same way whoever reads it.",
    "Sure. Here is what you asked for, in three short steps.",
)
_VOCABULARY = 32


class FakeModel:
    """Implements `afbench.models.Model` in memory; equal questions get equal answers.

    Args:
        seed: two models of different seeds give different answers.
    """

    def __init__(self, seed: int, *, n_layers: int = 3, width: int = 8) -> None:
        self.digest = f"fake:{seed}"
        self.capabilities = frozenset(
            {"generate", "logprobs", "activations", "weights", "adapter_scaling"}
        )
        self.n_layers, self.width = n_layers, width
        self.meter = Meter()
        self._seed = seed
        self._perturbation = ""

    def generate(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """One of a few fixed replies for each conversation."""
        sampling = settings.seed if settings.temperature > 0 else 0
        generations = []
        for conversation in conversations:
            text = _REPLIES[self._rng(conversation, sampling).integers(len(_REPLIES))]
            words = text.split()[: settings.max_new_tokens]
            generations.append(
                Generation(
                    text=" ".join(words),
                    reasoning="",
                    token_ids=tuple(range(len(words))),
                    finished=len(words) == len(text.split()),
                    prompt_tokens=_tokens(conversation),
                )
            )
        self._count(conversations, generated=sum(len(one.token_ids) for one in generations))
        if progress is not None:
            progress(len(generations))
        return generations

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Float64 [n, k], negative."""
        self._count(conversations)
        values = [
            [-self._rng(conversation, text).exponential() for text in continuations]
            for conversation in conversations
        ]
        return np.array(values, dtype=np.float64).reshape(len(conversations), len(continuations))

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """Float64 [n, q, k], negative."""
        asked = [
            [*conversation, {"role": "user", "content": question}]
            for conversation in conversations
            for question in questions
        ]
        values = self.logprobs(asked, continuations)  # type: ignore[arg-type]
        return values.reshape(len(conversations), len(questions), len(continuations))

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
        """Float32 [n, P, L, d], standard normal."""
        self._count(conversations)
        chosen = range(self.n_layers + 1) if layers is None else layers
        values = [
            [
                [
                    self._rng(conversation, pooling, layer).normal(size=self.width)
                    for layer in chosen
                ]
                for pooling in poolings
            ]
            for conversation in conversations
        ]
        shape = (len(conversations), len(poolings), len(chosen), self.width)
        return np.array(values, dtype=np.float32).reshape(shape)

    def next_token_logprobs(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Float32 [n, 32], a distribution in each row."""
        self._count(conversations)
        logits = [self._rng(talk, "next").normal(size=_VOCABULARY) for talk in conversations]
        array = np.array(logits).reshape(len(conversations), _VOCABULARY)
        return np.asarray(array - np.log(np.exp(array).sum(axis=1, keepdims=True)), np.float32)

    def reply_logprobs(
        self, conversations: Sequence[Conversation]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Float64 [n], negative, and the number of words of each reply."""
        self._count(conversations)
        counts = np.array([len(talk[-1]["content"].split()) for talk in conversations], np.int64)
        each = [self._rng(talk, "reply").exponential() for talk in conversations]
        return -np.array(each, dtype=np.float64) * counts, counts

    def layer_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None,
    ) -> NDArray[np.float64]:
        """Float64 [n, L, k], negative."""
        self._count(conversations)
        chosen = range(self.n_layers + 1) if layers is None else layers
        values = [
            [
                [-self._rng(talk, "lens", layer, text).exponential() for text in continuations]
                for layer in chosen
            ]
            for talk in conversations
        ]
        shape = (len(conversations), len(chosen), len(continuations))
        return np.array(values, dtype=np.float64).reshape(shape)

    def token_activations(
        self, conversations: Sequence[Conversation], layers: Sequence[int] | None
    ) -> Iterator[TokenActivations]:
        """One token for each word, standard normal."""
        chosen = range(self.n_layers + 1) if layers is None else layers
        for talk in conversations:
            self._count([talk])
            words = [turn["content"].split() for turn in talk]
            tokens = tuple(word for turn in words for word in turn)
            by_layer = [
                self._rng(talk, "tokens", layer).normal(size=(len(tokens), self.width))
                for layer in chosen
            ]
            values = np.stack(by_layer, axis=1).astype(np.float32)
            yield TokenActivations(values, len(tokens) - len(words[-1]), tokens)

    @contextmanager
    def perturbed(self, perturbation: Perturbation) -> Iterator[None]:
        """Other answers within; the same ones for the same perturbation."""
        before = self._perturbation
        self._perturbation = json.dumps(perturbation.parameters())
        try:
            yield
        finally:
            self._perturbation = before

    def _rng(self, conversation: Conversation, *salt: str | int) -> np.random.Generator:
        turns = [(message["role"], message["content"]) for message in conversation]
        further = [self._perturbation] if self._perturbation else []
        key = json.dumps([self._seed, turns, salt, *further]).encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))

    def _count(self, conversations: Sequence[Conversation], generated: int = 0) -> None:
        self.meter.calls += 1
        self.meter.generated_tokens += generated
        self.meter.forward_tokens += sum(_tokens(conversation) for conversation in conversations)


def _tokens(conversation: Conversation) -> int:
    return sum(len(message["content"].split()) for message in conversation)
