"""A few steps of training on the last replies of conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from afbench.errors import AfbenchError
from afbench.models.batching import pad_right
from afbench.models.extraction import Transcript

_LARGEST_NORM = 1.0


def tune(
    model: PreTrainedModel,
    weights: Sequence[nn.Parameter],
    rows: Sequence[Transcript],
    *,
    steps: int,
    rate: float,
    seed: int,
    batch: int,
    pad: int,
) -> int:
    """Train `weights` in place with AdamW (no decay, constant rate, gradients clipped at 1).

    The loss is the mean negative log-probability of the replies' tokens.

    Returns:
        The number of tokens read.

    Raises:
        AfbenchError: the replies have no tokens.
    """
    rows = [row for row in rows if row.reply]
    if not rows:
        raise AfbenchError("the replies to train on are empty")
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    seen = 0
    for _, members in zip(range(steps), _batches(len(rows), batch, seed), strict=False):
        chosen = [rows[index] for index in members]
        with torch.enable_grad():
            gradients = torch.autograd.grad(_loss(model, chosen, pad), weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, _LARGEST_NORM)
        optimizer.step()
        seen += sum(map(len, chosen))
    return seen


def _batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches; every row comes once before one comes again."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count).tolist()
        for start in range(0, count, size):
            yield order[start : start + size]


def _loss(model: PreTrainedModel, rows: Sequence[Transcript], pad: int) -> torch.Tensor:
    ids = pad_right([[*row.prompt, *row.reply] for row in rows], pad, model.device)
    # Right padding under a causal mask never reaches a real token, so no mask is needed.
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
    learned = torch.zeros_like(ids[:, 1:], dtype=torch.bool)
    for number, row in enumerate(rows):
        learned[number, len(row.prompt) - 1 : len(row) - 1] = True
    return nn.functional.cross_entropy(logits[learned], ids[:, 1:][learned])
