"""The decision in the first token, and what the cue does to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import FixedDetector
from afbench.detection.first_token import decision_shifts


class DecisionLogitDifference(FixedDetector):
    """Move of a logit difference between the two cues, the parent's taken off."""

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return decision_shifts(cases)
