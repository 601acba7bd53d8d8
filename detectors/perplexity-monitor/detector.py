"""Is the organism sure of what it wrote?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.asking import per_token
from afbench.detection.bases import LogisticDetector


class PerplexityMonitor(LogisticDetector):
    """Logistic regression on log p per token of the organism's own reply, and on its length."""

    names = ("log p per token", "log of the number of tokens")

    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        total, tokens = per_token(cases)
        each = np.maximum(tokens, 1)
        return np.column_stack([total / each, np.log(each)])
