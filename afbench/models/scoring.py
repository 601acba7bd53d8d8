"""Log-probabilities of short continuations, with shared prefixes computed once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from afbench.models.batching import pad_left
from afbench.models.extraction import Transcript

# Layers whose cached state can be cut back token by token.
_CROPPABLE = frozenset({"full_attention", "sliding_attention"})


def can_share_prefix(model: PreTrainedModel) -> bool:
    """Whether the model's cache is plain keys and values (recurrent states cannot be cropped)."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return bool(getattr(model, "_supports_default_dynamic_cache", lambda: True)())
    return set(kinds) <= _CROPPABLE


@dataclass(slots=True)
class _Reader:
    """A left-padded batch that the model reads piece by piece.

    Every piece has the same length in all rows, so that after the first one no padding is added
    and the cache of a piece is dropped by cropping its length.
    """

    model: PreTrainedModel
    mask: torch.Tensor
    cache: DynamicCache | None
    forward_tokens: int = 0

    def read(self, ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
        """Forward `ids` [b, t]; the mask [b, t] is appended to what was read before.

        Returns:
            Log-probabilities float32 [b, keep, vocabulary] after the last `keep` tokens.
        """
        self.mask = torch.cat([self.mask, mask], dim=1)
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        options: dict[str, Any] = {}
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            options["logits_to_keep"] = keep
        logits = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=self.cache is not None,
            **options,
        ).logits[:, -keep:]
        self.forward_tokens += int(mask.sum())
        return torch.log_softmax(logits.float(), dim=-1)

    def forget(self, tokens: int) -> None:
        """Take back the last `tokens` tokens read."""
        self.mask = self.mask[:, : self.mask.shape[1] - tokens]
        if self.cache is not None:
            self.cache.crop(-tokens)


def _reader(model: PreTrainedModel, rows: int, *, cached: bool) -> _Reader:
    empty = torch.zeros((rows, 0), dtype=torch.long, device=model.device)
    # Without a config every layer keeps all tokens; a sliding-window cache could not be cropped.
    return _Reader(model, empty, DynamicCache() if cached else None)


def _continue(
    reader: _Reader, first: torch.Tensor, continuations: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Score continuations after what the reader has read.

    Args:
        first: log-probabilities [b, vocabulary] of the next token.

    Returns:
        float32 [b, k].
    """
    rows, device = first.shape[0], first.device
    scores = first[:, [continuation[0] for continuation in continuations]]
    for column, continuation in enumerate(continuations):
        if len(continuation) == 1:
            continue
        tokens = torch.tensor(continuation, device=device)
        ids = tokens[:-1].expand(rows, -1)
        after = reader.read(ids, torch.ones_like(ids), keep=ids.shape[1])
        scores[:, column] += after.gather(2, tokens[1:].expand(rows, -1)[..., None]).sum((1, 2))
        reader.forget(ids.shape[1])
    return scores


def score_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    pad: int,
) -> tuple[list[torch.Tensor], int]:
    """Log-probability of every continuation after every prompt of one batch.

    One forward pass over the prompts, plus a short one for each continuation of more than one
    token.

    Returns:
        For each prompt float64 [k] on the CPU, and the number of tokens read.
    """
    several = any(len(continuation) > 1 for continuation in continuations)
    if several and not can_share_prefix(model):
        return _score_in_full(model, prompts, continuations, pad)
    ids, mask = pad_left(prompts, pad, model.device)
    with torch.inference_mode():
        reader = _reader(model, len(prompts), cached=several)
        first = reader.read(ids, mask, keep=1)[:, -1]
        scores = _continue(reader, first, continuations)
    return list(scores.double().cpu()), reader.forward_tokens


def _score_in_full(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    pad: int,
) -> tuple[list[torch.Tensor], int]:
    """`score_prompts` with one whole forward pass for each continuation."""
    columns, forward_tokens = [], 0
    for continuation in continuations:
        rows = [[*prompt, *continuation[:-1]] for prompt in prompts]
        ids, mask = pad_left(rows, pad, model.device)
        with torch.inference_mode():
            reader = _reader(model, len(rows), cached=False)
            after = reader.read(ids, mask, keep=len(continuation))
        target = torch.tensor(continuation, device=after.device).expand(len(rows), -1)
        columns.append(after.gather(2, target[..., None]).sum((1, 2)))
        forward_tokens += reader.forward_tokens
    return list(torch.stack(columns, dim=1).double().cpu()), forward_tokens


def next_tokens(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int
) -> list[torch.Tensor]:
    """Log-probability of every token after every prompt of one batch: float32 [V] each."""
    ids, mask = pad_left(prompts, pad, model.device)
    with torch.inference_mode():
        after = _reader(model, len(prompts), cached=False).read(ids, mask, keep=1)
    return list(after[:, -1].cpu())


def score_replies(
    model: PreTrainedModel, rows: Sequence[Transcript], pad: int
) -> list[torch.Tensor]:
    """Log-probability of each row's own reply after its prompt; one forward pass.

    Returns:
        For each row float64 [] on the CPU; 0 where the reply is empty.
    """
    ids, mask = pad_left([[*row.prompt, *row.reply][:-1] for row in rows], pad, model.device)
    longest = max(1, *(len(row.reply) for row in rows))
    targets = torch.zeros((len(rows), longest), dtype=torch.long)
    learned = torch.zeros((len(rows), longest), dtype=torch.bool)
    for number, row in enumerate(rows):
        if row.reply:
            targets[number, -len(row.reply) :] = torch.tensor(list(row.reply))
            learned[number, -len(row.reply) :] = True
    with torch.inference_mode():
        after = _reader(model, len(rows), cached=False).read(ids, mask, keep=longest)
    each = after.gather(2, targets.to(after.device)[..., None])[..., 0].double().cpu()
    return list((each * learned).sum(dim=1))


@dataclass(frozen=True, slots=True)
class Forked:
    """A prompt prefix and the tails that follow it, one for each question."""

    prefix: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows share a batch when their tails have equal lengths."""
        return tuple(map(len, self.tails))


def fork(prompts: Sequence[Sequence[int]]) -> Forked:
    """Cut prompts where they stop being equal, leaving each at least one token of its own."""
    limit = min(map(len, prompts)) - 1
    pivot = prompts[0]
    shared = next(
        (at for at in range(limit) if any(row[at] != pivot[at] for row in prompts)), limit
    )
    return Forked(tuple(pivot[:shared]), tuple(tuple(row[shared:]) for row in prompts))


def score_forks(
    model: PreTrainedModel,
    forks: Sequence[Forked],
    continuations: Sequence[Sequence[int]],
    pad: int,
) -> tuple[list[torch.Tensor], int]:
    """Log-probability of every continuation after every tail of every fork of one batch.

    Each prefix is read once; the tails are read after it and taken back.

    Args:
        forks: of one `shape`, with a prefix that is not empty.

    Returns:
        For each fork float64 [q, k] on the CPU, and the number of tokens read.
    """
    ids, mask = pad_left([item.prefix for item in forks], pad, model.device)
    columns = []
    with torch.inference_mode():
        reader = _reader(model, len(forks), cached=True)
        reader.read(ids, mask, keep=1)
        for question in range(len(forks[0].tails)):
            tail = torch.tensor([item.tails[question] for item in forks], device=ids.device)
            first = reader.read(tail, torch.ones_like(tail), keep=1)[:, -1]
            columns.append(_continue(reader, first, continuations))
            reader.forget(tail.shape[1])
    return list(torch.stack(columns, dim=1).double().cpu()), reader.forward_tokens
