"""Small training loops in torch that give the same weights in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray


@contextmanager
def repeatable(seed: int) -> Iterator[torch.Generator]:
    """One thread, and a generator of one's own, so that sums and draws come out alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(threads)


def descend(
    parameters: Sequence[torch.Tensor],
    loss: Callable[[], torch.Tensor],
    *,
    steps: int,
    rate: float,
    decay: float = 0.0,
) -> None:
    """Minimise a loss with AdamW, the rate falling to a tenth along a half cosine."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(list(parameters), lr=rate, weight_decay=decay, foreach=True)
    for step in range(steps):
        fall = 0.1 + 0.45 * (1 + np.cos(np.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * fall
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    for parameter in parameters:
        parameter.requires_grad_(False)


def balanced_weights(labels: NDArray[np.bool_]) -> torch.Tensor:
    """A weight for each case, so that both classes weigh alike and the mean is one: float32 [n]."""
    share = np.where(labels, labels.mean(), 1 - labels.mean())
    return torch.from_numpy((0.5 / share).astype(np.float32))


def logistic_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Weighted mean of the log-loss of logits [n] for labels [n] of 0 and 1."""
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (weights * each).mean()
