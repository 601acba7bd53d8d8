"""Directions that an organism gives by itself, from pairs of short texts and without any label."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.detector import Detector
from afbench.detection.features import groups_of, per_handle
from afbench.detection.places import best_column, chosen_place
from afbench.detection.state import fields
from afbench.messages import Conversation, Message


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two sets of short transcripts that differ in one thing.

    Attributes:
        positives: those that have it, in the direction of faking as fixed beforehand.
        negatives: those that do not.
    """

    positives: tuple[Conversation, ...]
    negatives: tuple[Conversation, ...]


def exchange(user: str, assistant: str, system: str = "") -> Conversation:
    """A short transcript: one request, one reply, and a system prompt if there is any."""
    head = [Message(role="system", content=system)] if system else []
    return [
        *head,
        Message(role="user", content=user),
        Message(role="assistant", content=assistant),
    ]


def projections(
    cases: Sequence[Case],
    contrasts: Sequence[Contrast],
    pooling: str,
    poolings: Sequence[str],
    layers: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Projections of each transcript on directions that its own organism gives.

    A direction is the unit vector from the mean of the negatives to that of the positives; the
    middle between them projects to zero.

    Args:
        pooling: how the short texts are read.
        poolings: how the cases' transcripts are read.

    Returns:
        float64 [n, contrasts, poolings, layers].

    Raises:
        TierError: the detector's tier does not allow it.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
        poles = [_poles(handle, contrast, pooling, layers) for contrast in contrasts]
        middles = np.stack([(high + low) / 2 for high, low in poles])  # [c, L, d]
        directions = np.stack([_unit(high - low) for high, low in poles])
        states = handle.activations(talks, layers, poolings).astype(np.float64)
        offsets = np.einsum("cld,cld->cl", middles, directions)
        found = np.einsum("npld,cld->ncpl", states, directions)
        return np.asarray(found - offsets[None, :, None])

    return per_handle(cases, ask)


class DirectionDetector(Detector):
    """Projection on directions that need no label; the place is chosen on the fit cases.

    A case's score is the sum of its projections, each divided by its deviation over the fit cases.
    The sign of every direction is fixed by its contrast, before any label is seen.

    Args:
        poolings: which token poolings of the transcripts may be chosen.
    """

    fitted = fields(layer=int, pooling=str, fit_auroc=float, scales=np.ndarray)
    reads: str = "response_mean"
    """Pooling of the short texts."""

    def __init__(self, poolings: Sequence[str]) -> None:
        self.poolings = list(poolings)

    @abc.abstractmethod
    def contrasts(self) -> list[Contrast]:
        """The pairs of texts, one `Contrast` for each direction."""

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        """Choose the place where the sum of the projections tells fit cases best."""
        layers = list(range(1, cases[0].handle.n_layers + 1))
        found = projections(cases, self.contrasts(), self.reads, self.poolings, layers)
        spread = found.std(axis=0)
        scales = np.where(spread > 1e-8, spread, 1.0)
        sums = (found / scales).sum(axis=1).reshape(len(cases), -1)
        column, self.fit_auroc = best_column(sums, labels, groups_of(cases))
        pooling, at = divmod(column, len(layers))
        self.pooling, self.layer = self.poolings[pooling], layers[at]
        self.scales = scales[:, pooling, at]

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """The sum of the scaled projections at the chosen place."""
        found = projections(cases, self.contrasts(), self.reads, [self.pooling], [self.layer])
        return np.asarray((found[:, :, 0, 0] / self.scales).sum(axis=1))

    def explain(self) -> dict[str, str | float | int]:
        """The layer and the pooling."""
        return chosen_place(self.layer, self.pooling, self.fit_auroc)


def _poles(
    handle: Handle, contrast: Contrast, pooling: str, layers: Sequence[int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean activations of the positives and of the negatives, float64 [L, d] each."""
    talks = [*contrast.positives, *contrast.negatives]
    states = handle.activations(talks, layers, [pooling])[:, 0].astype(np.float64)
    count = len(contrast.positives)
    return states[:count].mean(axis=0), states[count:].mean(axis=0)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 1e-12, norms, 1.0))
