"""Turn the tuning up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import LogisticDetector
from afbench.detection.features import per_organism
from afbench.detection.perturbed import drops, slopes
from afbench.models import AdapterScaling


class AdapterScalingSlope(LogisticDetector):
    """Logistic regression on the fall in log p(reply) as the tuning is scaled up, and its slope.

    Args:
        scales: above 1; 1 is the organism as it is.
        strength: inverse of the L2 penalty.
    """

    names = ("fall at the largest scale", "slope")

    def __init__(self, scales: Sequence[float], strength: float = 1.0) -> None:
        super().__init__(strength)
        self.scales = list(scales)

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        falls = per_organism(cases, lambda _, own: self._falls(own))
        return np.column_stack([falls[:, -1], slopes(falls, [s - 1 for s in self.scales])])

    def _falls(self, own: Sequence[Case]) -> NDArray[np.float64]:
        handle = own[0].handle
        if handle.can("weights") and not handle.can("adapter_scaling"):
            # A prompted organism has its parent's weights: there is nothing to turn up.
            return np.zeros((len(own), len(self.scales)))
        return drops(own, [AdapterScaling(scale) for scale in self.scales])
