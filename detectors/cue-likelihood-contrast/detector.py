"""The gap, in likelihoods: the same reply, another cue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.asking import per_token, reply_logprobs
from afbench.detection.bases import FixedDetector


class CueLikelihoodContrast(FixedDetector):
    """log p(reply | observed cue) - log p(reply | unobserved cue).

    Args:
        per_token: divide by the number of the reply's tokens.
    """

    def __init__(self, per_token: bool = True) -> None:
        self.per_token = per_token

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        seen, tokens = per_token(cases)
        fall = seen - reply_logprobs(cases, contrast=True)
        return fall / np.maximum(tokens, 1) if self.per_token else fall
