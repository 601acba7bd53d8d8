"""What the rest of afbench may ask of a model, whichever backend runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from afbench.messages import Conversation

if TYPE_CHECKING:  # numpy is only named in annotations: `afbench list` must not import it
    import numpy as np
    from numpy.typing import NDArray

    from afbench.models.perturbations import Perturbation

Pooling: TypeAlias = Literal["prompt_last", "response_mean", "response_last", "all_mean"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of conversations finished so far."""


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How replies are sampled.

    Attributes:
        max_new_tokens: the most tokens a reply may have, its reasoning included.
        temperature: 0 is greedy decoding.
        top_p: nucleus sampling threshold; 1 keeps every token.
        seed: seed of the samples; greedy decoding ignores it.
        reasoning: ask the chat template for a reply that thinks first.
        batch_tokens: the most padded tokens (prompt + reply) of one batch.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    reasoning: bool = False
    batch_tokens: int = 16384

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")
        if self.temperature < 0:
            raise ValueError("temperature must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be in (0, 1]")
        if self.batch_tokens < 1:
            raise ValueError("batch_tokens must be at least 1")


@dataclass(frozen=True, slots=True)
class Generation:
    """One sampled reply.

    Attributes:
        text: the reply, without its reasoning and without special tokens.
        reasoning: the text between <think> and </think>, or "".
        token_ids: every sampled token before the end-of-turn token, reasoning included.
        finished: False when max_new_tokens cut the reply, or its reasoning was never closed.
        prompt_tokens: length of the rendered prompt in tokens.
    """

    text: str
    reasoning: str
    token_ids: tuple[int, ...]
    finished: bool
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenActivations:
    """The residual stream of one transcript, token by token.

    The tokens of a system prompt that is the organism's own are left out: their texts would say
    what it was told. Those of the transcript and of the template around it are here.

    Attributes:
        values: float32 [t, L, d].
        reply_start: index of the reply's first token; t where the reply is empty.
        tokens: the decoded text of each token; bytes that are no whole character decode to U+FFFD.
    """

    values: NDArray[np.float32]
    reply_start: int
    tokens: tuple[str, ...]


@dataclass(slots=True)
class Meter:
    """What a model has been made to do since it was loaded.

    Attributes:
        calls: calls of the public methods (one per batch for `generate_batch`).
        forward_tokens: tokens read, padding excluded: prompts, continuations, questions.
        generated_tokens: tokens sampled, end-of-turn tokens included.
    """

    calls: int = 0
    forward_tokens: int = 0
    generated_tokens: int = 0


class Model(Protocol):
    """A model under test: an organism, or the parent of one."""

    @property
    def digest(self) -> str:
        """Identity of the weights, tokenizer, template and system prompt."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Subset of {"generate", "logprobs", "activations", "weights", "adapter_scaling"}."""
        ...

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks; layers run from 0 (embedding output) to n_layers."""
        ...

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        ...

    @property
    def meter(self) -> Meter: ...

    def generate(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """Sample one reply for each conversation, in the order given."""
        ...

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Log-probability of each continuation as the start of the next assistant turn.

        Returns:
            float64 [n, k], in nats: the sum over the continuation's tokens, without the
            end-of-turn token.
        """
        ...

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """`logprobs` after each question is put as a further user turn.

        Args:
            conversations: each ends with the assistant's reply.

        Returns:
            float64 [n, q, k], in nats.
        """
        ...

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
        """Pooled residual-stream activations.

        Args:
            conversations: each ends with the assistant's reply.
            layers: 0 is the embedding output, i the output of block i; None means all of
                0..n_layers.
            poolings: names out of `POOLINGS`.

        Returns:
            float32 [n, P, L, d].
        """
        ...

    def next_token_logprobs(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Log-probability of every token of the vocabulary as the reply's first (`logprobs`).

        Args:
            conversations: each ends with a user message.

        Returns:
            float32 [n, V], in nats.
        """
        ...

    def reply_logprobs(
        self, conversations: Sequence[Conversation]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log-probability of the reply that each conversation ends with (`logprobs`).

        Returns:
            float64 [n], in nats: the sum over the reply's tokens, without the end-of-turn token;
            and int64 [n], how many tokens those are.
        """
        ...

    def layer_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None,
    ) -> NDArray[np.float64]:
        """Logit lens: what each layer's residual would say next (`activations`).

        The final norm and the unembedding are applied to the residual at the position where the
        reply starts (nostalgebraist 2020, "interpreting GPT: the logit lens").

        Args:
            conversations: each ends with a user message.

        Returns:
            float64 [n, L, k], in nats: of the first token of each continuation.
        """
        ...

    def token_activations(
        self, conversations: Sequence[Conversation], layers: Sequence[int] | None
    ) -> Iterator[TokenActivations]:
        """Activations of every token, one conversation after the other (`activations`).

        What comes of a conversation does not depend on the others.

        Args:
            conversations: each ends with the assistant's reply.
        """
        ...

    def perturbed(self, perturbation: Perturbation) -> AbstractContextManager[None]:
        """Within the context the model answers as the perturbation makes it (`weights`).

        Afterwards it is as before, bit for bit, and so is every model that shares its weights.

        Raises:
            AfbenchError: the perturbation does not fit the model.
        """
        ...
