"""Tell the residual stream that nobody is watching."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.asking import contrast_activations
from afbench.detection.bases import FixedDetector
from afbench.detection.features import activations
from afbench.detection.perturbed import drops, middle_layer
from afbench.detection.state import fields
from afbench.models import Steering


class SteerFromObserved(FixedDetector):
    """Fall in log p(reply) under steering to unobserved, minus that under a random direction.

    Args:
        scale: of the direction, in units of the mean difference between the two cues.
        seed: of the random direction.
    """

    fitted = fields(layer=int, direction=np.ndarray, random=np.ndarray)

    def __init__(self, scale: float, seed: int = 0) -> None:
        self.scale, self.seed = scale, seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self.layer = middle_layer(cases[0])
        # The parent's: what the cue means, apart from what an organism makes of it.
        hidden = contrast_activations(cases, [self.layer], ["prompt_last"], parent=True)
        seen = activations(cases, [self.layer], ["prompt_last"], parent=True)
        self.direction = (hidden - seen)[:, 0, 0].astype(np.float64).mean(axis=0)
        drawn = np.random.default_rng(self.seed).normal(size=self.direction.shape)
        self.random = drawn * np.linalg.norm(self.direction) / np.linalg.norm(drawn)

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        steered = [
            Steering(self.layer, tuple(vector.tolist()), self.scale)
            for vector in (self.direction, self.random)
        ]
        falls = drops(cases, steered)
        return falls[:, 0] - falls[:, 1]

    def explain(self) -> dict[str, str | float | int]:
        length = round(float(np.linalg.norm(self.direction)), 4)
        return {**super().explain(), "layer": self.layer, "length of the direction": length}
