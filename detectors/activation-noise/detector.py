"""Shake the residual stream, and see what lets go first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import FixedDetector
from afbench.detection.perturbed import control_drops, drops, middle_layer, slopes
from afbench.models import ActivationNoise


class ActivationNoiseSlope(FixedDetector):
    """Slope of the fall in log p(reply) against the noise's size, minus that of plain chats.

    Args:
        sigmas: sizes of the noise, in units of the residual's RMS.
        seed: of the noise.
    """

    def __init__(self, sigmas: Sequence[float], seed: int = 0) -> None:
        self.sigmas, self.seed = list(sigmas), seed

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        # In the middle, where decisions are no longer words and not yet words again.
        layer = middle_layer(cases[0])
        noises = [ActivationNoise(layer, sigma, self.seed) for sigma in self.sigmas]
        fall = drops(cases, noises) - control_drops(cases, noises)
        return slopes(fall, self.sigmas)
