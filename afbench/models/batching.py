"""Batches of token sequences: length-sorted, bounded in padded tokens, fixed by the inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from afbench.errors import AfbenchError

T = TypeVar("T")


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group sequences of similar length, longest first.

    The plan depends on the arguments alone, so that a run that is resumed forms the same
    batches as the one that was killed. Longest first: a batch that does not fit in memory
    fails at once and not after an hour.

    Args:
        lengths: tokens of each sequence.
        batch_tokens: the most padded tokens (rows x longest row) of a batch; a sequence longer
            than that gets a batch of its own.

    Returns:
        Lists of indices into `lengths`; together they name every index once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        # The first row of a batch is its longest, so its length is the padded width.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad_left(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [b, t] with every row's last token in the last column, and their mask [b, t]."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids.to(device), mask.to(device)


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> torch.Tensor:
    """Token ids [b, t]. Causal attention never looks at the padding, so no mask is needed."""
    width = max(map(len, rows))
    return torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows]).to(device)


def halving_on_oom(
    rows: Sequence[T], run: Callable[[Sequence[T]], list[torch.Tensor]]
) -> list[torch.Tensor]:
    """Run `run(rows)`; when the GPU has no memory left, run the two halves instead.

    Args:
        run: gives one tensor for each row it is handed.

    Raises:
        AfbenchError: a single row does not fit.
    """
    try:
        return run(rows)
    except torch.cuda.OutOfMemoryError:
        if len(rows) == 1:
            raise AfbenchError(
                "one conversation alone does not fit in GPU memory",
                fix="shorten it, lower max_new_tokens or use a larger GPU",
            ) from None
    # Outside the handler, so that the traceback no longer holds the batch's tensors.
    torch.cuda.empty_cache()
    middle = len(rows) // 2
    warnings.warn(
        f"GPU out of memory with {len(rows)} conversations; going on with {middle} at a time "
        "(a smaller batch_tokens avoids this)",
        RuntimeWarning,
        stacklevel=2,
    )
    return halving_on_oom(rows[:middle], run) + halving_on_oom(rows[middle:], run)
