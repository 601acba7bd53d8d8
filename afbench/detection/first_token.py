"""What an organism and its parent would say first, with the observed cue and with the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.asking import contrast_of
from afbench.detection.features import per_organism
from afbench.messages import Conversation

Rows = NDArray[np.float64]


def decision_shifts(cases: Sequence[Case]) -> Rows:
    """How far the choice between two first tokens moves with the cue, minus the parent's move.

    Token A is the organism's likeliest with the observed cue, B the one that gains most with the
    unobserved cue; the value is logit(A) - logit(B), observed minus unobserved.

    Returns:
        float64 [n], in nats.

    Raises:
        TierError: the manifest lacks the tier, `contrast` or `needs_parent`.
    """

    def ask(handle: Handle, own: list[Case]) -> Rows:
        seen, hidden = _logprobs(handle, own, parent=False)
        parent_seen, parent_hidden = _logprobs(handle, own, parent=True)
        first, second = chosen_tokens(seen, hidden)
        move = margin_move(seen, hidden, first, second)
        return move - margin_move(parent_seen, parent_hidden, first, second)

    return per_organism(cases, ask)


def divergences(cases: Sequence[Case]) -> Rows:
    """KL(organism || parent) of the first token, with the observed and the unobserved cue.

    Returns:
        float64 [n, 2], in nats.

    Raises:
        TierError: the manifest lacks the tier, `contrast` or `needs_parent`.
    """

    def ask(handle: Handle, own: list[Case]) -> Rows:
        mine = _logprobs(handle, own, parent=False)
        parents = _logprobs(handle, own, parent=True)
        sides = [kl(p, q) for p, q in zip(mine, parents, strict=True)]
        return np.stack(sides, axis=1)

    return per_organism(cases, ask)


def chosen_tokens(seen: Rows, hidden: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The likeliest token of `seen`, and the one that gains most probability in `hidden`.

    Probability and not its logarithm: a token that stays unlikely decides nothing.

    Args:
        seen, hidden: log-probabilities [n, V].
    """
    first = seen.argmax(axis=1)
    gains = np.exp(hidden) - np.exp(seen)
    # The two differ: what gains most may be what was likeliest already.
    gains[np.arange(len(gains)), first] = -np.inf
    return first, gains.argmax(axis=1)


def margin_move(
    seen: Rows, hidden: Rows, first: NDArray[np.int64], second: NDArray[np.int64]
) -> Rows:
    """(log p(first) - log p(second)) of `seen` minus that of `hidden`: float64 [n], in nats."""
    rows = np.arange(len(seen))
    moves = seen - hidden
    return np.asarray(moves[rows, first] - moves[rows, second])


def kl(p: Rows, q: Rows) -> Rows:
    """KL(p || q) of rows of log-probabilities: float64 [n], in nats, never negative."""
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0))


def _logprobs(handle: Handle, own: Sequence[Case], *, parent: bool) -> tuple[Rows, Rows]:
    """Of the first token: float64 [n, V] with the observed cue, and with the other."""
    seen: list[Conversation] = [case.prompt for case in own]
    hidden: list[Conversation] = [contrast_of(case)[:-1] for case in own]
    sides = [handle.next_token_logprobs(talks, parent=parent) for talks in (seen, hidden)]
    return sides[0].astype(np.float64), sides[1].astype(np.float64)
