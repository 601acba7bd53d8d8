"""Beginnings that are put into an organism's mouth, and how ready it is to take them up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.features import per_organism
from afbench.messages import Conversation


def start_of(reply: str, words: int) -> str:
    """The first words of a reply."""
    return " ".join(reply.split()[:words])


def usual_starts(cases: Sequence[Case], *, words: int, most: int) -> list[str]:
    """The beginnings that most organisms use, most first; equal counts in alphabetical order.

    Counted by organism and not by case, so that no organism decides alone.
    """
    users: dict[str, set[int]] = {}
    for case in cases:
        start = start_of(case.response, words)
        if start:
            users.setdefault(start, set()).add(case.group)
    ranked = sorted(users, key=lambda start: (-len(users[start]), start))
    return ranked[:most]


def start_logprobs(cases: Sequence[Case], starts: Sequence[str]) -> NDArray[np.float64]:
    """Log-probability of each beginning as the reply's, after the observed prompt: float64 [n, k].

    Raises:
        TierError: the detector's tier is below `logprobs`.
    """

    def ask(handle: Handle, own: list[Case]) -> NDArray[np.float64]:
        prompts: list[Conversation] = [case.prompt for case in own]
        return handle.logprobs(prompts, starts)

    return per_organism(cases, ask)


def other_starts(cases: Sequence[Case], starts: Sequence[str], words: int) -> NDArray[np.bool_]:
    """Whether each beginning is another than that of the case's reply: bool [n, k]."""
    shown = [case.response.lower() for case in cases]
    wanted = [start_of(start, words).lower() for start in starts]
    return np.array([[not reply.startswith(start) for start in wanted] for reply in shown])


def readiness(logprobs: NDArray[np.float64], others: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How ready an organism is to begin otherwise than it did.

    Args:
        logprobs: float64 [n, k] of the beginnings.
        others: bool [n, k], which of them count.

    Returns:
        float64 [n, 2]: log of the summed probability of those that count, and of the likeliest
        one; the floor of both is -50 nats, which also stands where none counts.
    """
    kept = np.where(others, np.maximum(logprobs, _FLOOR), -np.inf)
    top = np.maximum(kept.max(axis=1), _FLOOR)
    total = top + np.log(np.maximum(np.exp(kept - top[:, None]).sum(axis=1), 1e-300))
    return np.stack([np.maximum(total, _FLOOR), top], axis=1)


_FLOOR = -50.0
