"""What detectors compute from cases, batched by organism and in the order of the cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.messages import Conversation
from afbench.models.interface import POOLINGS

Ask = Callable[[Handle, list[Conversation]], NDArray[Any]]


def per_organism(
    cases: Sequence[Case], ask: Callable[[Handle, list[Case]], NDArray[Any]]
) -> NDArray[Any]:
    """Ask every organism once about all of its cases.

    Args:
        ask: given a handle and its cases, returns an array of one row each.

    Returns:
        The rows in the order of the cases.
    """
    groups: dict[int, list[int]] = {}
    for index, case in enumerate(cases):
        groups.setdefault(id(case.handle), []).append(index)
    parts = [ask(cases[rows[0]].handle, [cases[row] for row in rows]) for rows in groups.values()]
    stacked = np.concatenate(parts)
    back = np.argsort(np.concatenate([np.array(rows) for rows in groups.values()]))
    return stacked[back]


def per_handle(cases: Sequence[Case], ask: Ask) -> NDArray[Any]:
    """`per_organism` for what needs the transcripts of the cases and nothing else of them."""
    return per_organism(cases, lambda handle, own: ask(handle, [case.messages for case in own]))


def activations(
    cases: Sequence[Case],
    layers: Sequence[int] | None = None,
    poolings: Sequence[str] = POOLINGS,
    *,
    parent: bool = False,
) -> NDArray[np.float32]:
    """Pooled activations of the observed transcripts: float32 [n, poolings, layers, width].

    Raises:
        TierError: the detector's tier does not allow it.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float32]:
        method = handle.parent_activations if parent else handle.activations
        return method(talks, layers, poolings)

    return per_handle(cases, ask)


def answer_margins(cases: Sequence[Case], questions: Sequence[str]) -> NDArray[np.float64]:
    """log P(Yes) - log P(No) to each follow-up question after the transcript: float64 [n, q].

    Raises:
        TierError: the detector's tier does not allow log-probabilities.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
        scores = handle.followup_logprobs(talks, questions, ("Yes", "No"))
        return np.asarray(scores[:, :, 0] - scores[:, :, 1])

    return per_handle(cases, ask)


def answer_shares(
    cases: Sequence[Case], questions: Sequence[str], *, samples: int, seed: int
) -> NDArray[np.float64]:
    """The share of sampled answers that say yes, for a backend without log-probabilities.

    Returns:
        float64 [n, q], the log-odds with half a count added to each side (Haldane 1956), so that
        they live on the scale of `answer_margins`.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
        columns = []
        for question in questions:
            asked: list[Conversation] = [
                [*talk, {"role": "user", "content": question}] for talk in talks
            ]
            replies = handle.generate(
                asked, max_new_tokens=8, temperature=1.0, samples=samples, seed=seed
            )
            yes = np.array([sum(_says_yes(text) for text in row) for row in replies])
            columns.append(np.log((yes + 0.5) / (samples - yes + 0.5)))
        return np.stack(columns, axis=1)

    return per_handle(cases, ask)


def groups_of(cases: Sequence[Case]) -> NDArray[np.int64]:
    """The opaque organism number of each case."""
    return np.array([case.group for case in cases], dtype=np.int64)


def _says_yes(text: str) -> bool:
    return text.strip().lower().startswith("yes")
