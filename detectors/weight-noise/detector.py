"""Shake the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import FixedDetector
from afbench.detection.perturbed import control_drops, drops
from afbench.models import WeightNoise


class WeightNoiseFall(FixedDetector):
    """Largest fall in log p(reply) over the sizes of the noise, beyond that of plain chats.

    Args:
        sigmas: sizes of the noise, in units of each matrix's own standard deviation.
        seed: of the noise.
    """

    def __init__(self, sigmas: Sequence[float], seed: int = 0) -> None:
        self.sigmas, self.seed = list(sigmas), seed

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        noises = [WeightNoise(sigma, self.seed) for sigma in self.sigmas]
        beyond = drops(cases, noises) - control_drops(cases, noises)
        return np.asarray(beyond.max(axis=1))
