"""What a transformers model is asked beyond replies and pooled activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from afbench.models import extraction, lens, perturbing, scoring, short_tuning
from afbench.models.batching import halving_on_oom, plan_batches
from afbench.models.extraction import Transcript
from afbench.models.interface import TokenActivations
from afbench.models.perturbations import FineTune, Perturbation

if TYPE_CHECKING:
    from afbench.messages import Conversation
    from afbench.models.chat import ChatRenderer
    from afbench.models.interface import Meter

T = TypeVar("T")


class WhiteBox:
    """The part of `TransformersModel` that reads single tokens and layers, and perturbs.

    The attributes below are set by `TransformersModel`; see `Model` for what the methods promise.
    """

    chat: ChatRenderer
    meter: Meter
    n_layers: int
    width: int
    _read_tokens: int
    _parent_weights: Callable[[], Mapping[str, torch.Tensor]] | None

    @property
    def module(self) -> PreTrainedModel:
        """The torch module."""
        raise NotImplementedError

    def next_token_logprobs(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Log-probability of every token as the reply's first: float32 [n, V].

        Raises:
            AfbenchError: a conversation does not end with a user message.
        """
        prompts = self.chat.prompts(conversations)

        def run(rows: Sequence[list[int]]) -> list[torch.Tensor]:
            return scoring.next_tokens(self.module, rows, self.chat.pad_id)

        found = self._in_batches(prompts, run)
        vocabulary = int(self.module.get_output_embeddings().weight.shape[0])
        return np.asarray(found, dtype=np.float32).reshape(len(prompts), vocabulary)

    def reply_logprobs(
        self, conversations: Sequence[Conversation]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log-probability of each conversation's reply: float64 [n], and its tokens, int64 [n].

        Raises:
            AfbenchError: a conversation does not end with the assistant's reply.
        """
        rows = [Transcript(*pair) for pair in self.chat.replies(conversations)]

        def run(part: Sequence[Transcript]) -> list[torch.Tensor]:
            return scoring.score_replies(self.module, part, self.chat.pad_id)

        found = self._in_batches(rows, run)
        counts = np.array([len(row.reply) for row in rows], dtype=np.int64)
        return np.asarray(found, dtype=np.float64).reshape(len(rows)), counts

    def layer_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None,
    ) -> NDArray[np.float64]:
        """Logit lens where the reply starts: float64 [n, L, k], of each continuation's first token.

        Raises:
            AfbenchError: an unknown layer, an empty continuation, or a conversation that does not
                end with a user message.
        """
        wanted = extraction.check_layers(layers, self.n_layers)
        prompts = self.chat.prompts(conversations)
        tokens = [row[0] for row in self.chat.continuations(continuations)]

        def run(rows: Sequence[list[int]]) -> list[torch.Tensor]:
            return lens.lens_batch(self.module, rows, tokens, wanted, self.chat.pad_id)

        found = self._in_batches(prompts, run)
        return np.asarray(found, np.float64).reshape(len(prompts), len(wanted), len(tokens))

    def token_activations(
        self, conversations: Sequence[Conversation], layers: Sequence[int] | None
    ) -> Iterator[TokenActivations]:
        """Activations of every token, a conversation at a time; see `Model`.

        Each is forwarded alone: in a batch, the last digits would depend on the others.

        Raises:
            AfbenchError: an unknown layer, or a conversation that does not end with a reply.
        """
        wanted = extraction.check_layers(layers, self.n_layers)
        self.meter.calls += 1
        for conversation in conversations:
            [(prompt, reply)] = self.chat.replies([conversation])
            row = Transcript(prompt, reply)
            self._check_length(len(row), "a conversation")
            values = extraction.every_token(self.module, row, wanted)
            self._count(len(row))
            cut = self.chat.own_prompt_tokens(conversation)
            yield TokenActivations(
                values=values[cut:].cpu().numpy(),
                reply_start=len(prompt) - cut,
                tokens=self.chat.texts_of([*prompt, *reply][cut:]),
            )

    @contextmanager
    def perturbed(self, perturbation: Perturbation) -> Iterator[None]:
        """Within the context the model answers under a perturbation; see `Model`.

        Raises:
            AfbenchError: the perturbation does not fit the model.
        """

        def tune(undo: perturbing.Undo, fine_tune: FineTune) -> None:
            rows = [Transcript(*pair) for pair in self.chat.replies(fine_tune.texts)]
            self._check_length(max(map(len, rows)), "a conversation")
            weights = perturbing.trainable(self.module, undo)
            seen = short_tuning.tune(
                self.module,
                weights,
                rows,
                steps=fine_tune.steps,
                rate=fine_tune.rate,
                seed=fine_tune.seed,
                batch=fine_tune.batch,
                pad=self.chat.pad_id,
            )
            self._count(seen)

        with perturbing.perturbed(
            self.module, perturbation, tune=tune, parent_weights=self._parent_weights
        ):
            yield

    def _in_batches(
        self, rows: Sequence[T], run: Callable[[Sequence[T]], list[torch.Tensor]]
    ) -> list[NDArray[np.generic]]:
        """What `run` gives for each row, in the order of the rows."""
        self.meter.calls += 1
        lengths = [len(row) for row in rows]  # type: ignore[arg-type]
        self._check_length(max(lengths, default=0), "a conversation")
        found: dict[int, NDArray[np.generic]] = {}
        for members in plan_batches(lengths, self._read_tokens):
            values = halving_on_oom([rows[index] for index in members], run)
            self._count(sum(lengths[index] for index in members))
            found |= {at: value.numpy() for at, value in zip(members, values, strict=True)}
        return [found[index] for index in range(len(rows))]

    def _check_length(self, tokens: int, what: str) -> None:
        raise NotImplementedError

    def _count(self, forward_tokens: int, generated_tokens: int = 0) -> None:
        raise NotImplementedError
