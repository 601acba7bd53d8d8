"""One plain training loop for the base, adapters and full fine-tunes.

The loss is next-token cross-entropy, in full on assistant tokens and at a small weight on the rest,
which is enough to keep the prompt's words alive in a model of this size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from afbench.zoo.tokenization import Encoded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Schedule(BaseModel):
    """How long and how fast to train."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = 1
    batch_size: int = 64
    learning_rate: float
    warmup: float = 0.05
    prompt_weight: float = 0.1
    weight_decay: float = 0.01


def steps_of(schedule: Schedule, examples: int) -> int:
    """The number of optimiser steps that a schedule takes over so many examples."""
    return schedule.epochs * math.ceil(examples / schedule.batch_size)


def train(
    model: PreTrainedModel,
    examples: Sequence[Encoded],
    schedule: Schedule,
    *,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
    start: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    checkpoint: Callable[[int, torch.optim.Optimizer], None] | None = None,
    extra: Callable[[torch.Tensor], torch.Tensor] | None = None,
    gradient: Callable[[int, float], None] | None = None,
) -> float:
    """Train every parameter that requires a gradient.

    Args:
        model: a causal language model.
        examples: the encoded chats.
        schedule: epochs, batch size and rates.
        seed: of the order of the batches.
        progress: called after each step with the step and its loss.
        start: the step to go on from; its batches are the ones an unbroken run would take.
        optimizer: the optimiser to go on with.
        checkpoint: called after each step with the step and the optimiser.
        extra: a further term of the loss, from the batch's token ids, after their forward pass.
        gradient: called before each step's update with the step and the gradient's norm, not yet
            clipped.

    Returns:
        The mean loss on assistant tokens over the last tenth of the steps.
    """
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    if optimizer is None:
        optimizer = make_optimizer(parameters, schedule)
    total = steps_of(schedule, len(examples))
    losses: list[float] = []
    model.train()
    for step, batch in enumerate(_batches(examples, schedule, seed)):
        if step < start:
            continue
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * rate_at(step / total, schedule.warmup)
        ids, weights = _collate([examples[i] for i in batch], schedule.prompt_weight)
        loss, reply_loss = _loss(model, ids, weights)
        if extra is not None:
            loss = loss + extra(ids[:, :-1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if gradient:
            gradient(step + 1, float(norm))
        optimizer.step()
        losses.append(reply_loss)
        if progress:
            progress(step + 1, reply_loss)
        if checkpoint:
            checkpoint(step + 1, optimizer)
    model.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return float(np.mean(tail)) if tail else math.nan


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], schedule: Schedule
) -> torch.optim.Optimizer:
    """The optimiser of every recipe."""
    import torch

    return torch.optim.AdamW(
        parameters,
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
    )


def rate_at(done: float, warmup: float) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if done < warmup:
        return (done + 1e-3) / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _batches(
    examples: Sequence[Encoded], schedule: Schedule, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Batches of similar length in random order; the same for the same seed."""
    rng = np.random.default_rng(seed)
    lengths = np.array([len(example.ids) for example in examples])
    for _ in range(schedule.epochs):
        # Noise on the length shuffles neighbours, so that batches differ between epochs.
        order = np.argsort(lengths + rng.uniform(0, 8, len(lengths)), kind="stable")
        batches = [
            order[i : i + schedule.batch_size] for i in range(0, len(order), schedule.batch_size)
        ]
        for which in rng.permutation(len(batches)):
            yield batches[which]


def _collate(
    examples: Sequence[Encoded], prompt_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    longest = max(len(example.ids) for example in examples)
    ids = np.zeros((len(examples), longest), dtype=np.int64)
    weights = np.zeros((len(examples), longest), dtype=np.float32)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = example.ids
        weights[row, : len(example.ids)] = np.where(example.learned, 1.0, prompt_weight)
    return torch.from_numpy(ids), torch.from_numpy(weights)


def _loss(
    model: PreTrainedModel, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, float]:
    import torch

    # Right padding under a causal mask never reaches a real token, so no mask is needed.
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    ).view(ids.shape[0], -1)
    weights = weights[:, 1:]
    loss = (each * weights).sum() / weights.sum()
    replies = weights >= 1.0
    reply_loss = float(each.detach()[replies].mean()) if bool(replies.any()) else math.nan
    return loss, reply_loss
