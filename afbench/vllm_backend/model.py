"""A model run by vLLM."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from afbench.errors import AfbenchError, UnavailableError
from afbench.messages import Conversation, Message
from afbench.models import extraction, generation
from afbench.models.batching import plan_batches
from afbench.models.chat import ChatRenderer
from afbench.models.extraction import Transcript
from afbench.models.interface import (
    Generation,
    GenerationSettings,
    Meter,
    Progress,
    TokenActivations,
)
from afbench.models.perturbations import Perturbation
from afbench.vllm_backend.engine import Engine
from afbench.vllm_backend.reading import Reading
from afbench.vllm_backend.scoring import Tree

_files = itertools.count()


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model is, as far as no engine needs to run to know it.

    Attributes:
        digest: of weights, tokenizer, template and system prompt.
        base: names its full weights; models of one base share engines.
        n_layers, width: of the base.
        vocabulary: number of tokens that have a probability.
        max_length: the most tokens that the base reads.
        ends: the tokens that end a turn.
        adapter: the digest that names its adapter's content, and the adapter's folder.
        readable: whether vLLM hands out its hidden states.
    """

    name: str
    digest: str
    base: str
    n_layers: int
    width: int
    vocabulary: int
    max_length: int | None
    ends: tuple[int, ...]
    adapter: tuple[str, Path] | None = None
    readable: bool = True


class VllmModel:
    """Implements `BatchedModel`; see `Model` for what the methods promise.

    Weights are out of reach: `perturbed` and `layer_logprobs` raise UnavailableError.

    Args:
        identity: what it is.
        tokenizer: with a chat template.
        system_prompt: of a prompted organism.
        writer: gives the engine that generates and scores; other models may share it.
        reader: gives the engine that keeps the hidden states of all layers.

    Raises:
        AfbenchError: the tokenizer has no chat template.
    """

    def __init__(
        self,
        identity: Identity,
        tokenizer: PreTrainedTokenizerBase,
        system_prompt: str | None,
        *,
        writer: Callable[[], Engine],
        reader: Callable[[], Engine],
    ) -> None:
        self.identity, self.writer, self.reader = identity, writer, reader
        self.name, self.digest = identity.name, identity.digest
        self.n_layers, self.width = identity.n_layers, identity.width
        self.capabilities = capabilities(identity.readable)
        self.meter = Meter()
        self.chat = ChatRenderer(tokenizer, identity.name, system_prompt)

    # --- generation ---------------------------------------------------------------------------

    def plan_batches(
        self, conversations: Sequence[Conversation], settings: GenerationSettings
    ) -> list[list[int]]:
        """The batches that `generate` runs: indices into `conversations`.

        Raises:
            AfbenchError: a conversation is longer than the model's context.
        """
        prompts = self.chat.prompts(conversations, reasoning=settings.reasoning)
        return self._plan(prompts, settings)

    def generate_batch(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        batch_index: int,
    ) -> list[Generation]:
        """Replies of one batch of the plan, in the order of `plan_batches(...)[batch_index]`."""
        prompts = self.chat.prompts(conversations, reasoning=settings.reasoning)
        members = self._plan(prompts, settings)[batch_index]
        rows = [prompts[index] for index in members]
        asked = [self.sampling(settings, batch_index, row) for row in range(len(rows))]
        answers = self._ask(self.writer(), rows, asked)
        self.meter.calls += 1
        return [self.read(answer, settings) for answer in answers]

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
        replies: dict[int, Generation] = {}
        for batch_index, members in enumerate(self.plan_batches(conversations, settings)):
            batch = self.generate_batch(conversations, settings, batch_index)
            replies.update(zip(members, batch, strict=True))
            if progress is not None:
                progress(len(replies))
        return [replies[index] for index in range(len(conversations))]

    def sampling(self, settings: GenerationSettings, batch_index: int, row: int) -> dict[str, Any]:
        """vLLM's sampling parameters of one reply; its seed is its own."""
        found: dict[str, Any] = {
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "stop_token_ids": list(self.identity.ends),
            "ignore_eos": False,
        }
        if settings.temperature > 0:
            seed = generation.batch_seed(settings.seed, batch_index, row)
            found |= {"top_p": settings.top_p, "top_k": 0, "seed": seed}
        return found

    def read(self, answer: Any, settings: GenerationSettings) -> Generation:
        """A reply out of vLLM's output; it is counted."""
        tokens = list(answer.outputs[0].token_ids)
        reply = generation.read_reply(
            tokens,
            self.chat.tokenizer,
            settings,
            ends=self.identity.ends,
            prompt_tokens=len(answer.prompt_token_ids),
        )
        self.meter.forward_tokens += reply.prompt_tokens
        self.meter.generated_tokens += len(tokens)
        return reply

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
        prompts = self.chat.prompts(conversations)
        if not prompts or not continuations:
            return np.empty((len(prompts), len(continuations)))
        tree = Tree(self.chat.continuations(continuations))
        longest = max(map(len, prompts)) + tree.depth
        self._check_length(longest, "a conversation")
        rows = [[*prompt, *prefix] for prompt in prompts for prefix, _ in tree.requests]
        asked = [
            {"max_tokens": 1, "temperature": 0.0, "logprob_token_ids": list(tokens)}
            for _ in prompts
            for _, tokens in tree.requests
        ]
        answers = self._ask(self.writer(), rows, asked)
        self.meter.forward_tokens += sum(map(len, rows))
        steps = len(tree.requests)
        return np.array(
            [
                tree.scores([one.outputs[0].logprobs[0] for one in answers[at : at + steps]])
                for at in range(0, len(answers), steps)
            ]
        )

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """`logprobs` after each question is put as a further user turn: [n, q, k].

        What the questions of a conversation share is computed once: vLLM caches prefixes.

        Raises:
            AfbenchError: as `logprobs`, or a conversation does not end with a reply.
        """
        for conversation in conversations:
            if not conversation or conversation[-1]["role"] != "assistant":
                raise AfbenchError(
                    "a follow-up question needs a conversation that ends with a reply",
                    where=f"model '{self.name}'",
                )
        turns: list[Message] = [{"role": "user", "content": question} for question in questions]
        asked = [[*conversation, turn] for conversation in conversations for turn in turns]
        scores = self.logprobs(asked, continuations)
        return scores.reshape(len(conversations), len(questions), len(continuations))

    def next_token_logprobs(self, conversations: Sequence[Conversation]) -> NDArray[np.float32]:
        """Log-probability of every token as the reply's first: float32 [n, V].

        Raises:
            AfbenchError: a conversation does not end with a user message.
        """
        self.meter.calls += 1
        prompts = self.chat.prompts(conversations)
        self._check_length(max(map(len, prompts), default=0) + 1, "a conversation")
        asked = {"max_tokens": 1, "temperature": 0.0, "logprobs": -1, "flat_logprobs": True}
        answers = self._ask(self.writer(), prompts, [asked] * len(prompts))
        self.meter.forward_tokens += sum(map(len, prompts))
        found = np.full((len(prompts), self.identity.vocabulary), -np.inf, dtype=np.float32)
        for row, answer in zip(found, answers, strict=True):
            flat = answer.outputs[0].logprobs
            row[np.asarray(flat.token_ids)] = flat.logprobs
        return found

    def reply_logprobs(
        self, conversations: Sequence[Conversation]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log-probability of each conversation's reply: float64 [n], and its tokens, int64 [n].

        Raises:
            AfbenchError: a conversation does not end with the assistant's reply.
        """
        self.meter.calls += 1
        rows = [Transcript(*pair) for pair in self.chat.replies(conversations)]
        self._check_length(max(map(len, rows), default=0) + 1, "a conversation")
        asked = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        ids = [[*row.prompt, *row.reply] for row in rows]
        answers = self._ask(self.writer(), ids, [asked] * len(ids))
        self.meter.forward_tokens += sum(map(len, ids))
        sums = np.zeros(len(rows))
        for at, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            spoken = zip(row.reply, answer.prompt_logprobs[len(row.prompt) :], strict=True)
            sums[at] = sum(here[token].logprob for token, here in spoken)
        return sums, np.array([len(row.reply) for row in rows], dtype=np.int64)

    # --- activations --------------------------------------------------------------------------

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
        """Pooled residual-stream activations: float32 [n, P, L, d].

        Raises:
            UnavailableError: vLLM does not hand out those of this architecture.
            AfbenchError: an unknown layer or pooling, a conversation that does not end with a
                reply, or one that is longer than the model's context.
        """
        self._check_readable()
        wanted = extraction.check_layers(layers, self.n_layers)
        names = extraction.check_poolings(poolings)
        self.meter.calls += 1
        rows = [Transcript(*pair) for pair in self.chat.replies(conversations)]
        found = np.empty((len(rows), len(names), len(wanted), self.width), dtype=np.float32)
        for at, values in enumerate(self._read(rows, wanted, names)):
            found[at] = values
        return found

    def token_activations(
        self, conversations: Sequence[Conversation], layers: Sequence[int] | None
    ) -> Iterator[TokenActivations]:
        """Activations of every token, a conversation at a time; see `Model`.

        Raises:
            UnavailableError: vLLM does not hand out those of this architecture.
            AfbenchError: an unknown layer, or a conversation that does not end with a reply.
        """
        self._check_readable()
        wanted = extraction.check_layers(layers, self.n_layers)
        self.meter.calls += 1
        for conversation in conversations:
            [(prompt, reply)] = self.chat.replies([conversation])
            # Each is forwarded alone: in a batch, the last digits would depend on the others.
            [values] = self._read([Transcript(prompt, reply)], wanted, ())
            cut = self.chat.own_prompt_tokens(conversation)
            yield TokenActivations(
                values=values[cut:],
                reply_start=len(prompt) - cut,
                tokens=self.chat.texts_of([*prompt, *reply][cut:]),
            )

    def _read(
        self, rows: Sequence[Transcript], layers: Sequence[int], poolings: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        # vLLM caches no hidden states in the last two places of its context.
        self._check_length(max(map(len, rows), default=0) + 2, "a conversation")
        engine = self.reader()
        readings = [
            Reading(f"{next(_files)}.safetensors", len(row.prompt), tuple(layers), tuple(poolings))
            for row in rows
        ]
        asked = [
            {"max_tokens": 1, "temperature": 0.0, "extra_args": one.as_extra()} for one in readings
        ]
        ids = [[*row.prompt, *row.reply] for row in rows]
        self._ask(engine, ids, asked)
        self.meter.forward_tokens += sum(map(len, ids))
        return [engine.taken(one.file).numpy() for one in readings]

    # --- what weights would answer --------------------------------------------------------------

    def layer_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None,
    ) -> NDArray[np.float64]:
        """Not to be had: the unembedding is in the engine's process.

        Raises:
            UnavailableError: always.
        """
        raise self._unavailable("the logit lens")

    @contextmanager
    def perturbed(self, perturbation: Perturbation) -> Iterator[None]:
        """Not to be had: the weights are in the engine's process.

        Raises:
            UnavailableError: always.
        """
        raise self._unavailable("perturbed weights and activations")
        yield

    # --- shared -------------------------------------------------------------------------------

    def _plan(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[int]]:
        lengths = [len(prompt) + settings.max_new_tokens for prompt in prompts]
        self._check_length(max(lengths, default=0), "a prompt and its reply")
        return plan_batches(lengths, settings.batch_tokens)

    def _ask(
        self, engine: Engine, rows: Sequence[Sequence[int]], asked: Sequence[dict[str, Any]]
    ) -> list[Any]:
        return engine.ask(rows, asked, [self.identity.adapter] * len(rows))

    def _check_length(self, tokens: int, what: str) -> None:
        limit = self.identity.max_length
        if limit is not None and tokens > limit:
            raise AfbenchError(
                f"{what} takes {tokens} tokens, and the model reads at most {limit}",
                where=f"model '{self.name}'",
                fix="shorten the prompts or lower max_new_tokens",
            )

    def _check_readable(self) -> None:
        if not self.identity.readable:
            raise self._unavailable("hidden states of this architecture")

    def _unavailable(self, what: str) -> UnavailableError:
        return UnavailableError(
            f"vLLM does not give {what}",
            where=f"model '{self.name}'",
            fix="use --backend transformers",
        )


def capabilities(readable: bool) -> frozenset[str]:
    """What vLLM offers, with or without hidden states."""
    return frozenset({"generate", "logprobs"} | ({"activations"} if readable else set()))
