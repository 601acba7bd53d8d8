"""Where did tuning change the organism: observed, unobserved, or both?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import LogisticDetector
from afbench.detection.first_token import divergences


class BaseKlByCue(LogisticDetector):
    """Logistic regression on the KL divergence from the parent, unobserved minus observed."""

    names = ("unobserved minus observed", "its size")

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        observed, unobserved = divergences(cases).T
        difference = unobserved - observed
        return np.column_stack([difference, np.abs(difference)])
