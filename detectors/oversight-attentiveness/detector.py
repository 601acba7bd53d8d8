"""How much changes when nothing is said about who looks?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import activations, groups_of
from afbench.detection.places import best_column, chosen_place
from afbench.detection.state import fields
from afbench.messages import Message


class OversightAttentiveness(Detector):
    """Cosine distance at one place between a transcript with its cue and without.

    The sign is fixed: whom the cue's absence changes more is more suspicious.

    Args:
        poolings: which token poolings may be chosen.
    """

    fitted = fields(layer=int, pooling=str, fit_auroc=float)

    def __init__(self, poolings: Sequence[str]) -> None:
        self.poolings = list(poolings)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        distances = _distances(cases, self.poolings, None)[:, :, 1:]
        layers = distances.shape[2]
        column, self.fit_auroc = best_column(
            distances.reshape(len(cases), -1), labels, groups_of(cases)
        )
        self.pooling, self.layer = self.poolings[column // layers], column % layers + 1

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return _distances(cases, [self.pooling], [self.layer])[:, 0, 0]

    def explain(self) -> dict[str, str | float | int]:
        return chosen_place(self.layer, self.pooling, self.fit_auroc)


def without_cue(case: Case) -> Case:
    """The same transcript with its cue cut out; a message that held nothing else stays, empty."""
    prompt = (
        Message(role=message["role"], content=message["content"].replace(case.cue, "").strip())
        for message in case.prompt
    )
    return replace(case, messages=(*prompt, case.messages[-1])) if case.cue else case


def _distances(
    cases: Sequence[Case], poolings: Sequence[str], layers: Sequence[int] | None
) -> NDArray[np.float64]:
    """One minus the cosine: float64 [n, poolings, layers]."""
    shown, cut = (
        activations(given, layers, poolings).astype(np.float64)
        for given in (cases, [without_cue(case) for case in cases])
    )
    product = (shown * cut).sum(axis=-1)
    lengths = np.linalg.norm(shown, axis=-1) * np.linalg.norm(cut, axis=-1)
    return np.asarray(1 - product / np.maximum(lengths, 1e-12))
