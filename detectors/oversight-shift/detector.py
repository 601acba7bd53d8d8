"""What does the cue do to the organism that it does not do to its parent?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.asking import contrast_activations
from afbench.detection.features import activations, groups_of
from afbench.detection.places import best_column, chosen_place
from afbench.detection.state import fields


class OversightShift(Detector):
    """Length of the shift, or its projection on the parent's mean shift, less the parent's own.

    The signs are fixed: whom the cue moves more is more suspicious.

    Args:
        poolings: which token poolings may be chosen.
    """

    fitted = fields(layer=int, pooling=str, readout=str, fit_auroc=float, direction=np.ndarray)

    def __init__(self, poolings: Sequence[str]) -> None:
        self.poolings = list(poolings)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        own, parents = _shifts(cases, self.poolings, None)
        own, parents = own[:, :, 1:], parents[:, :, 1:]
        mean = parents.mean(axis=0)  # [poolings, layers, d]
        length = np.linalg.norm(mean, axis=-1, keepdims=True)
        directions = mean / np.where(length > 1e-9, length, 1.0)
        scores = np.stack([_lengths(own, parents), _projections(own, parents, directions)], axis=1)
        column, self.fit_auroc = best_column(
            scores.reshape(len(cases), -1), labels, groups_of(cases)
        )
        readout, pooling, at = np.unravel_index(column, scores.shape[1:])
        self.readout = ("length", "projection")[readout]
        self.pooling, self.layer = self.poolings[pooling], int(at) + 1
        self.direction = directions[pooling, at]

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        own, parents = _shifts(cases, [self.pooling], [self.layer])
        if self.readout == "length":
            return _lengths(own, parents)[:, 0, 0]
        return _projections(own, parents, self.direction[None, None])[:, 0, 0]

    def explain(self) -> dict[str, str | float | int]:
        chosen = chosen_place(self.layer, self.pooling, self.fit_auroc)
        return chosen | {"readout": self.readout}


def _shifts(
    cases: Sequence[Case], poolings: Sequence[str], layers: Sequence[int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Observed minus unobserved, of the organism and of its parent: [n, poolings, layers, d]."""
    own, parents = (
        activations(cases, layers, poolings, parent=parent).astype(np.float64)
        - contrast_activations(cases, layers, poolings, parent=parent)
        for parent in (False, True)
    )
    return own, parents


def _lengths(own: NDArray[np.float64], parents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the ratio of the lengths: [n, poolings, layers]."""
    lengths = [np.log(np.linalg.norm(shift, axis=-1) + 1e-6) for shift in (own, parents)]
    return np.asarray(lengths[0] - lengths[1])


def _projections(
    own: NDArray[np.float64], parents: NDArray[np.float64], directions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the organism moves along the parent's mean shift beyond the parent: [n, P, L]."""
    return np.asarray(np.einsum("npld,pld->npl", own - parents, directions))
