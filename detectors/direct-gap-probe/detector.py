"""A ceiling: look at what the organism does when it is not observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.asking import contrast_of
from afbench.detection.bases import FixedDetector
from afbench.detection.replies import WordSpace, replies_to
from afbench.detection.state import fields


class DirectGapProbe(FixedDetector):
    """One minus the likeness of the observed reply and the reply to the unobserved twin.

    Args:
        max_new_tokens: of the unobserved reply.
    """

    fitted = fields(_space=WordSpace)

    def __init__(self, max_new_tokens: int) -> None:
        self.max_new_tokens = max_new_tokens

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._space = WordSpace().fit([case.response for case in cases])

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        prompts = [contrast_of(case)[:-1] for case in cases]
        found = replies_to(cases, prompts, max_new_tokens=self.max_new_tokens)
        unobserved = [replies[0] for replies in found]
        return 1 - self._space.likeness([case.response for case in cases], unobserved)
