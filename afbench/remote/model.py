"""Organisms on a remote model: what `Model` promises, as far as the provider can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from typing import ClassVar, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from afbench.errors import AfbenchError, UnavailableError
from afbench.messages import Conversation, Message
from afbench.models.interface import (
    Generation,
    GenerationSettings,
    Meter,
    Progress,
    TokenActivations,
)
from afbench.models.perturbations import Perturbation
from afbench.models.texts import THINK_OPEN
from afbench.remote.chat_completions import OpenAIProvider, opens_thought, with_system
from afbench.remote.exchange import Exchange
from afbench.remote.pacing import patiently
from afbench.remote.reply import Question, Reply

S = TypeVar("S")
T = TypeVar("T")


class RemoteModel:
    """One organism on a provider's model; see `Model` for what the methods promise.

    Args:
        exchange: asks the provider; several organisms share it.
        digest: identity of the model and the organism's system prompt.
        name: the organism's name.
        system_prompt: the organism's own.
        served: the name under which the provider has it; None is the model of the exchange.
    """

    # Its layers cannot be seen.
    n_layers = 0
    width = 0
    capabilities: frozenset[str] = frozenset({"generate"})
    _LACKS: ClassVar[str] = "it answers chats and nothing else"

    def __init__(
        self,
        exchange: Exchange,
        digest: str,
        name: str,
        system_prompt: str | None = None,
        *,
        served: str | None = None,
    ) -> None:
        self.digest, self.name, self.meter = digest, name, Meter()
        self.system_prompt, self.served = system_prompt, served
        self.exchange = exchange

    # --- generation ---------------------------------------------------------------------------

    def questions(
        self, conversations: Sequence[Conversation], settings: GenerationSettings
    ) -> list[Question]:
        """What is asked for replies to these conversations.

        Raises:
            BackendError: a conversation does not end with a user message.
        """
        prompt, model = self.system_prompt, self.served
        return [self.exchange.question(prompt, talk, settings, model) for talk in conversations]

    def generate(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """One reply for each conversation; equal requests get one reply.

        Raises:
            BackendError: none can be had; what was answered before is kept.
            SpendingLimitError: the run may not spend what the next one could cost.
        """
        replies = self.exchange.replies(self.questions(conversations, settings), progress)
        self.meter.calls += len(replies)
        self.meter.forward_tokens += sum(reply.tokens.prompt for reply in replies)
        self.meter.generated_tokens += sum(reply.tokens.output for reply in replies)
        return [_generation(reply) for reply in replies]

    def plan_batches(
        self, conversations: Sequence[Conversation], settings: GenerationSettings
    ) -> list[list[int]]:
        """One batch: each reply is kept by itself, so that nothing is gained by smaller ones."""
        return [list(range(len(conversations)))] if conversations else []

    def generate_batch(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        batch_index: int,
    ) -> list[Generation]:
        """Replies of one batch of the plan."""
        members = self.plan_batches(conversations, settings)[batch_index]
        return self.generate([conversations[member] for member in members], settings)

    # --- what cannot be had -------------------------------------------------------------------

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Raises: UnavailableError."""
        self._unavailable("log-probabilities")

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """Raises: UnavailableError."""
        self._unavailable("log-probabilities")

    def reply_logprobs(
        self, conversations: Sequence[Conversation]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Raises: UnavailableError."""
        self._unavailable("log-probabilities")

    def next_token_logprobs(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Raises: UnavailableError; a server gives the likeliest tokens and never all of them."""
        self._unavailable("log-probabilities of a whole vocabulary")

    def layer_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None,
    ) -> NDArray[np.float64]:
        """Raises: UnavailableError."""
        self._unavailable("layers")

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
        """Raises: UnavailableError."""
        self._unavailable("activations")

    def token_activations(
        self, conversations: Sequence[Conversation], layers: Sequence[int] | None
    ) -> Iterator[TokenActivations]:
        """Raises: UnavailableError."""
        self._unavailable("activations")

    def perturbed(self, perturbation: Perturbation) -> AbstractContextManager[None]:
        """Raises: UnavailableError."""
        self._unavailable("weights")

    def _unavailable(self, what: str) -> NoReturn:
        raise UnavailableError(
            f"{self.exchange.name} gives no {what}: {self._LACKS}",
            fix="run the organism on another backend",
        )


class AnthropicModel(RemoteModel):
    """A prompted organism on a model of Anthropic's."""


class OpenAIModel(RemoteModel):
    """A prompted organism, or one that a server has under its name, on a server of open models.

    Where the server is vLLM, log-probabilities of given texts are to be had too. They are over the
    tokens that transformers would make of them: the server renders the prompt by the model's own
    template, and prompt and text are tokenised one by one.
    """

    _LACKS = "it is a server of chat completions"

    @cached_property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        """With `logprobs` where the server is vLLM."""
        return capabilities_of(self._server)

    @property
    def _server(self) -> OpenAIProvider:
        provider = self.exchange.provider
        assert isinstance(provider, OpenAIProvider)
        return provider

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Log-probability of each continuation as the start of the reply: float64 [n, k].

        Raises:
            UnavailableError: the server gives none.
            BackendError: it cannot be asked; or a continuation is empty.
        """
        self._needs_logprobs()
        tails = [self._continuation(text) for text in continuations]
        prompts = self._side_by_side(self._prompt, conversations)
        pairs = [(prompt, tail) for prompt in prompts for tail in tails]
        scores = self._side_by_side(lambda pair: self._score(*pair), pairs)
        self.meter.calls += 1
        return np.array(scores, dtype=np.float64).reshape(len(conversations), len(tails))

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """`logprobs` after each question is put as a further user turn: float64 [n, q, k].

        Raises:
            UnavailableError, BackendError: as `logprobs`.
        """
        turns: list[Message] = [{"role": "user", "content": question} for question in questions]
        asked = [[*talk, turn] for talk in conversations for turn in turns]
        scores = self.logprobs(asked, continuations)
        return scores.reshape(len(conversations), len(turns), len(continuations))

    def reply_logprobs(
        self, conversations: Sequence[Conversation]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log-probability of the reply that each conversation ends with, and its length in tokens.

        Raises:
            UnavailableError, BackendError: as `logprobs`.
        """
        self._needs_logprobs()
        found = self._side_by_side(self._reply_score, conversations)
        self.meter.calls += 1
        return (
            np.array([score for score, _ in found], dtype=np.float64),
            np.array([length for _, length in found], dtype=np.int64),
        )

    def _reply_score(self, conversation: Conversation) -> tuple[float, int]:
        if not conversation or conversation[-1]["role"] != "assistant":
            raise AfbenchError("the conversation must end with the assistant's reply")
        reply = conversation[-1]["content"]
        thinks = reply.startswith(THINK_OPEN)
        prompt = self._prompt(conversation[:-1], reasoning=thinks)
        if thinks and opens_thought(prompt, self._tokens(THINK_OPEN)):
            reply = reply.removeprefix(THINK_OPEN).lstrip("\n")
        tail = self._tokens(reply) if reply else []
        return (self._score(prompt, tail) if tail else 0.0), len(tail)

    def _prompt(self, conversation: Conversation, *, reasoning: bool = False) -> list[int]:
        if not conversation or conversation[-1]["role"] != "user":
            raise AfbenchError("the conversation must end with a user message")
        turns = with_system(self.system_prompt, conversation)
        return self._asked(lambda: self._server.prompt_tokens(turns, reasoning=reasoning))

    def _continuation(self, text: str) -> list[int]:
        tokens = self._tokens(text) if text else []
        if not tokens:
            raise AfbenchError("a continuation is empty", where=f"model '{self.name}'")
        return tokens

    def _tokens(self, text: str) -> list[int]:
        return self._asked(lambda: self._server.tokens(text))

    def _score(self, prompt: Sequence[int], tail: Sequence[int]) -> float:
        score = self._asked(lambda: self._server.score(prompt, tail, self.served))
        self.meter.forward_tokens += len(prompt) + len(tail)
        return score

    def _asked(self, call: Callable[[], T]) -> T:
        exchange = self.exchange
        return patiently(call, attempts=exchange.terms.attempts, where=exchange.name)

    def _side_by_side(self, call: Callable[[S], T], items: Sequence[S]) -> list[T]:
        with ThreadPoolExecutor(self.exchange.terms.concurrency) as pool:
            return list(pool.map(call, items))

    def _needs_logprobs(self) -> None:
        if "logprobs" not in self.capabilities:
            self._unavailable("log-probabilities")


def capabilities_of(server: OpenAIProvider) -> frozenset[str]:
    """What a server offers; asks it once what it is.

    Raises:
        BackendError: as `OpenAIProvider.is_vllm`.
    """
    return frozenset({"generate", "logprobs"} if server.is_vllm else {"generate"})


def _generation(reply: Reply) -> Generation:
    """A reply as the rest of afbench knows it.

    What the provider's own filter refused is no behaviour of the organism: it has no text, so that
    no grader can take it for a refusal of the model's.
    """
    return Generation(
        text=reply.text,
        reasoning=reply.reasoning,
        token_ids=reply.token_ids,
        finished=reply.ended != "cut",
        prompt_tokens=reply.tokens.prompt,
    )
