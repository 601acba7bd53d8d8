"""What detectors ask beyond pooled activations and answers: replies, contrasts, token streams.

Every organism is asked once about all of its cases; rows come in the order of the cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.features import per_handle
from afbench.errors import AfbenchError, TierError
from afbench.messages import Conversation, Message
from afbench.models.interface import POOLINGS, TokenActivations
from afbench.models.perturbations import Perturbation


def contrast_of(case: Case) -> tuple[Message, ...]:
    """The transcript of a case with the unobserved cue: prompt and the same reply.

    Raises:
        TierError: the detector's manifest does not say `contrast: true`.
    """
    if case.contrast is None:
        raise TierError(
            "the cases come without contrast transcripts",
            fix="set 'contrast: true' in detector.yaml (tier logprobs or above)",
        )
    return case.contrast


def reply_logprobs(
    cases: Sequence[Case],
    *,
    contrast: bool = False,
    parent: bool = False,
    perturbation: Perturbation | None = None,
) -> NDArray[np.float64]:
    """Log-probability of the observed reply after its prompt: float64 [n], in nats.

    Args:
        contrast: after the prompt with the unobserved cue instead; the reply is the same.
        parent: of the parent.
        perturbation: of the organism under it; not with `parent`.

    Raises:
        TierError: the tier or the manifest does not allow it.
        AfbenchError: a perturbation of the parent is asked for.
    """
    return per_token(cases, contrast=contrast, parent=parent, perturbation=perturbation)[0]


def per_token(
    cases: Sequence[Case],
    *,
    contrast: bool = False,
    parent: bool = False,
    perturbation: Perturbation | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As `reply_logprobs`, with the number of the reply's tokens: float64 [n] and int64 [n]."""
    if parent and perturbation is not None:
        raise AfbenchError("only the organism is perturbed, and not its parent")

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
        if perturbation is not None:
            found = handle.perturbed_reply_logprobs(talks, perturbation)
        else:
            found = handle.reply_logprobs(talks, parent=parent)
        return np.stack(found, axis=1)

    both = per_handle(_shown(cases, contrast), ask)
    return both[:, 0], both[:, 1].astype(np.int64)


def contrast_activations(
    cases: Sequence[Case],
    layers: Sequence[int] | None = None,
    poolings: Sequence[str] = POOLINGS,
    parent: bool = False,
) -> NDArray[np.float32]:
    """Pooled activations of the contrast transcripts: float32 [n, poolings, layers, width].

    Raises:
        TierError: the tier or the manifest does not allow it.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float32]:
        method = handle.parent_activations if parent else handle.activations
        return method(talks, layers, poolings)

    return per_handle(_shown(cases, True), ask)


def token_stream(
    cases: Sequence[Case],
    layers: Sequence[int] | None = None,
    *,
    contrast: bool = False,
    parent: bool = False,
) -> Iterator[tuple[int, TokenActivations]]:
    """Activations of every token, a case at a time, so that no two cases are in memory at once.

    Yields:
        The index of a case, and its activations (float32 [t, layers, width]). Cases of one
        organism come together: the indices are not in order.

    Raises:
        TierError: the tier or the manifest does not allow it.
    """
    shown = _shown(cases, contrast)
    for rows in _by_handle(shown):
        talks = [shown[row].messages for row in rows]
        stream = shown[rows[0]].handle.token_activations(talks, layers, parent=parent)
        yield from zip(rows, stream, strict=True)


def _shown(cases: Sequence[Case], contrast: bool) -> Sequence[Case]:
    """The cases, or the same ones with their contrast transcripts as messages."""
    if not contrast:
        return cases
    return [replace(case, messages=contrast_of(case)) for case in cases]


def _by_handle(cases: Sequence[Case]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index, case in enumerate(cases):
        groups.setdefault(id(case.handle), []).append(index)
    return list(groups.values())
