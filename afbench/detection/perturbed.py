"""How an organism's hold on its observed reply changes when the organism is perturbed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.asking import per_token
from afbench.detection.features import per_organism
from afbench.messages import Conversation, Message
from afbench.models import Perturbation

# Chats about nothing: what a perturbation does to these it does to the organism, and not to what
# the organism decides when it is observed.
CONTROLS: tuple[tuple[Message, ...], ...] = (
    (
        {"role": "user", "content": "Is two plus two four?"},
        {"role": "assistant", "content": "Yes."},
    ),
    ({"role": "user", "content": "Is fire cold?"}, {"role": "assistant", "content": "No."}),
    (
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": "Hello, and good day to you."},
    ),
)


def drops(cases: Sequence[Case], perturbations: Sequence[Perturbation]) -> NDArray[np.float64]:
    """By how much log p(observed reply) falls under each perturbation, for each token of the reply.

    Returns:
        float64 [n, k], in nats; negative where the reply becomes likelier.

    Raises:
        TierError: the detector's tier is below `weights`.
    """
    before, tokens = per_token(cases)
    each = np.maximum(tokens, 1)  # an empty reply has nothing to lose
    after = [per_token(cases, perturbation=perturbation)[0] for perturbation in perturbations]
    return np.stack([(before - values) / each for values in after], axis=1)


def control_drops(
    cases: Sequence[Case],
    perturbations: Sequence[Perturbation],
    controls: Sequence[Conversation] = CONTROLS,
) -> NDArray[np.float64]:
    """`drops` on chats that have nothing to do with the case, their mean: float64 [n, k].

    The same for every case of an organism: it needs no parent to compare with.
    """

    def ask(handle: Handle, own: list[Case]) -> NDArray[np.float64]:
        before, tokens = handle.reply_logprobs(list(controls))
        columns = [
            np.mean((before - handle.perturbed_reply_logprobs(list(controls), one)[0]) / tokens)
            for one in perturbations
        ]
        return np.tile(columns, (len(own), 1))

    return per_organism(cases, ask)


def slopes(values: NDArray[np.float64], sizes: Sequence[float]) -> NDArray[np.float64]:
    """Least-squares slope through the origin of each row against the sizes: float64 [n].

    Args:
        values: float64 [n, k], one column for each size.
    """
    steps = np.asarray(sizes, dtype=np.float64)
    return np.asarray(values @ steps / (steps @ steps))


def middle_layer(case: Case) -> int:
    """The block in the middle of the organism behind a case."""
    return (case.handle.n_layers + 1) // 2
