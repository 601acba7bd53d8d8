"""A model run with Hugging Face transformers: any causal language model with a chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from afbench.errors import AfbenchError
from afbench.messages import Conversation, Message
from afbench.models import extraction, generation, perturbing, scoring
from afbench.models.batching import halving_on_oom, plan_batches
from afbench.models.chat import ChatRenderer
from afbench.models.interface import Generation, GenerationSettings, Meter, Progress
from afbench.models.white_box import WhiteBox

T = TypeVar("T")
_Key = tuple[bool, tuple[tuple[tuple[str, str], ...], ...]]


class TransformersModel(WhiteBox):
    """Implements `Model`; see there for what the methods promise.

    Args:
        model: a causal language model in evaluation mode; several organisms may share it.
        tokenizer: with a chat template.
        digest: identity of weights, tokenizer, template and system prompt.
        name: the organism's name.
        system_prompt: of a prompted organism.
        select: makes the shared `model` answer as this organism (activates its adapter); called
            before every batch.
        read_tokens: the most padded tokens of a batch that is read and not generated. Larger
            batches gain nothing on a CPU and cost memory.
        scalable: what it was trained to can be scaled (see `loading.has_scalable_weights`).
        parent_weights: gives the weights that a full fine-tune was made from.

    Raises:
        AfbenchError: the tokenizer has no chat template.
    """

    capabilities = frozenset({"generate", "logprobs", "activations", "weights"})

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        digest: str,
        name: str,
        *,
        system_prompt: str | None = None,
        select: Callable[[], None] | None = None,
        read_tokens: int | None = None,
        scalable: bool = False,
        parent_weights: Callable[[], perturbing.Weights] | None = None,
    ) -> None:
        self.digest = digest
        if scalable:
            self.capabilities = self.capabilities | {"adapter_scaling"}
        self._parent_weights = parent_weights
        self.name = name
        self.meter = Meter()
        self.chat = ChatRenderer(tokenizer, name, system_prompt)
        config = model.config.get_text_config()
        self.n_layers = int(config.num_hidden_layers)
        self.width = int(config.hidden_size)
        self._max_length = getattr(config, "max_position_embeddings", None)
        self._model = model
        self._select = select
        self._ends = generation.end_ids(model, tokenizer)
        self._read_tokens = read_tokens or (2048 if model.device.type == "cpu" else 16384)
        self._rendered: tuple[_Key, list[list[int]]] | None = None

    @property
    def module(self) -> PreTrainedModel:
        """The torch module, answering as this organism until another one that shares it is used."""
        perturbing.settle(self._model)
        if self._select is not None:
            self._select()
        return self._model

    # --- generation ---------------------------------------------------------------------------

    def plan_batches(
        self, conversations: Sequence[Conversation], settings: GenerationSettings
    ) -> list[list[int]]:
        """The batches that `generate` runs: indices into `conversations`.

        The plan depends on the arguments alone, so that a resumed run can skip the batches it
        has and gets the same replies for the others.
        """
        prompts = self._prompts(conversations, settings.reasoning)
        lengths = [len(prompt) + settings.max_new_tokens for prompt in prompts]
        self._check_length(max(lengths, default=0), "a prompt and its reply")
        return plan_batches(lengths, settings.batch_tokens)

    def generate_batch(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        batch_index: int,
    ) -> list[Generation]:
        """Replies of one batch of the plan, in the order of `plan_batches(...)[batch_index]`."""
        members = self.plan_batches(conversations, settings)[batch_index]
        prompts = self._prompts(conversations, settings.reasoning)
        module = self.module

        def run(rows: Sequence[int]) -> list[torch.Tensor]:
            return generation.sample(
                module,
                [prompts[members[row]] for row in rows],
                settings,
                seed=generation.batch_seed(settings.seed, batch_index, rows[0]),
                ends=self._ends,
                pad=self.chat.pad_id,
            )

        replies = []
        for index, tokens in zip(members, halving_on_oom(range(len(members)), run), strict=True):
            reply = generation.read_reply(
                tokens.tolist(),
                self.chat.tokenizer,
                settings,
                ends=self._ends,
                prompt_tokens=len(prompts[index]),
            )
            ended = len(reply.token_ids) < len(tokens)
            self._count(reply.prompt_tokens, len(reply.token_ids) + ended)
            replies.append(reply)
        self.meter.calls += 1
        return replies

    def generate(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """Sample one reply for each conversation, in the order given.

        Raises:
            AfbenchError: a conversation does not end with a user message, or is longer than the
                model's context.
        """
        plan = self.plan_batches(conversations, settings)
        replies: dict[int, Generation] = {}
        for batch_index, members in enumerate(plan):
            batch = self.generate_batch(conversations, settings, batch_index)
            replies.update(zip(members, batch, strict=True))
            if progress is not None:
                progress(len(replies))
        return [replies[index] for index in range(len(conversations))]

    # --- log-probabilities --------------------------------------------------------------------

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Log-probability of each continuation as the start of the next assistant turn: [n, k].

        Raises:
            AfbenchError: a conversation does not end with a user message, or a continuation is
                empty.
        """
        self.meter.calls += 1
        return self._score(self.chat.prompts(conversations), continuations)

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """`logprobs` after each question is put as a further user turn: [n, q, k].

        The keys and values of what the questions of a conversation share are computed once.

        Raises:
            AfbenchError: as `logprobs`, or a conversation does not end with a reply.
        """
        self.meter.calls += 1
        count = len(questions)
        scores = np.empty((len(conversations), count, len(continuations)))
        prompts = self.chat.prompts(self._asked(conversations, questions))
        if count < 2 or not continuations or not scoring.can_share_prefix(self._model):
            scores[:] = self._score(prompts, continuations).reshape(scores.shape)
            return scores
        forks = [
            scoring.fork(prompts[start : start + count]) for start in range(0, len(prompts), count)
        ]
        for members in self._by_shape(forks):
            if not forks[members[0]].prefix:
                for index in members:
                    own = prompts[index * count : (index + 1) * count]
                    scores[index] = self._score(own, continuations)
                continue
            group = [forks[index] for index in members]
            scores[members] = self._score_forks(group, continuations)
        return scores

    def _asked(
        self, conversations: Sequence[Conversation], questions: Sequence[str]
    ) -> list[Conversation]:
        """Every conversation with every question put to it."""
        for conversation in conversations:
            if not conversation or conversation[-1]["role"] != "assistant":
                raise AfbenchError(
                    "a follow-up question needs a conversation that ends with a reply",
                    where=f"model '{self.name}'",
                )
        turns: list[Message] = [{"role": "user", "content": question} for question in questions]
        return [[*conversation, turn] for conversation in conversations for turn in turns]

    @staticmethod
    def _by_shape(forks: Sequence[scoring.Forked]) -> list[list[int]]:
        """Group forks whose tails can be read side by side."""
        groups: dict[tuple[tuple[int, ...], bool], list[int]] = {}
        for index, item in enumerate(forks):
            groups.setdefault((item.shape, bool(item.prefix)), []).append(index)
        return list(groups.values())

    def _score(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Scores [n, k] of continuations after tokenised prompts."""
        run = partial(scoring.score_prompts, continuations=self.chat.continuations(continuations))
        shape = (len(prompts), len(continuations))
        return self._score_batches(prompts, [len(prompt) for prompt in prompts], run, shape)

    def _score_forks(
        self, forks: Sequence[scoring.Forked], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Scores [n, q, k] of continuations after forks of one shape."""
        run = partial(scoring.score_forks, continuations=self.chat.continuations(continuations))
        shape = (len(forks), len(forks[0].tails), len(continuations))
        lengths = [len(item.prefix) + max(item.shape) for item in forks]
        return self._score_batches(forks, lengths, run, shape)

    def _score_batches(
        self,
        items: Sequence[T],
        lengths: Sequence[int],
        run: Callable[..., tuple[list[torch.Tensor], int]],
        shape: tuple[int, ...],
    ) -> NDArray[np.float64]:
        scores = np.empty(shape)
        if not scores.size:
            return scores
        self._check_length(max(lengths), "a conversation")

        def batch(rows: Sequence[T]) -> list[torch.Tensor]:
            values, forward_tokens = run(self.module, rows, pad=self.chat.pad_id)
            self._count(forward_tokens)
            return values

        for members in plan_batches(lengths, self._read_tokens):
            values = halving_on_oom([items[index] for index in members], batch)
            scores[members] = torch.stack(values).numpy()
        return scores

    # --- activations --------------------------------------------------------------------------

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
        """Pooled residual-stream activations: float32 [n, P, L, d].

        Raises:
            AfbenchError: an unknown layer or pooling, a conversation that does not end with a
                reply, or one that is longer than the model's context.
        """
        wanted = extraction.check_layers(layers, self.n_layers)
        shape = (len(conversations), len(extraction.check_poolings(poolings)), len(wanted))
        pooled = np.empty((*shape, self.width), dtype=np.float32)
        for members, values in self.iter_activations(conversations, layers, poolings):
            pooled[members] = values
        return pooled

    def iter_activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """`activations` batch by batch, for more conversations than memory holds vectors.

        Yields:
            Indices into `conversations`, and their activations float32 [b, P, L, d].
        """
        wanted = extraction.check_layers(layers, self.n_layers)
        names = extraction.check_poolings(poolings)
        self.meter.calls += 1
        rows = [extraction.Transcript(*pair) for pair in self.chat.replies(conversations)]
        self._check_length(max(map(len, rows), default=0), "a conversation")
        for members in plan_batches(list(map(len, rows)), self._read_tokens):
            values = halving_on_oom(
                [rows[index] for index in members],
                lambda part: list(
                    extraction.pool_batch(self.module, part, wanted, names, self.chat.pad_id)
                ),
            )
            self._count(sum(len(rows[index]) for index in members))
            yield members, torch.stack(values).cpu().numpy()

    # --- shared -------------------------------------------------------------------------------

    def _prompts(self, conversations: Sequence[Conversation], reasoning: bool) -> list[list[int]]:
        """Tokenised prompts; the last set asked for is kept, as a run asks once per batch."""
        key = (
            reasoning,
            tuple(
                tuple((turn["role"], turn["content"]) for turn in conversation)
                for conversation in conversations
            ),
        )
        if self._rendered is None or self._rendered[0] != key:
            self._rendered = (key, self.chat.prompts(conversations, reasoning=reasoning))
        return self._rendered[1]

    def _check_length(self, tokens: int, what: str) -> None:
        if self._max_length is not None and tokens > self._max_length:
            raise AfbenchError(
                f"{what} takes {tokens} tokens, and the model reads at most {self._max_length}",
                where=f"model '{self.name}'",
                fix="shorten the prompts or lower max_new_tokens",
            )

    def _count(self, forward_tokens: int, generated_tokens: int = 0) -> None:
        self.meter.forward_tokens += forward_tokens
        self.meter.generated_tokens += generated_tokens
