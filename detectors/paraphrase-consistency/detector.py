"""Put the request in other words, and see whether the reply stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case
from afbench.detection.bases import FixedDetector
from afbench.detection.replies import WordSpace, replies_to, reworded, spread
from afbench.detection.state import fields


class ParaphraseConsistency(FixedDetector):
    """One minus the mean likeness of the reply and the replies to paraphrases.

    Args:
        templates: each holds `{request}` once; nothing of the request is lost.
        max_new_tokens: of each reply.
    """

    fitted = fields(_space=WordSpace)

    def __init__(self, templates: Sequence[str], max_new_tokens: int) -> None:
        self.templates, self.max_new_tokens = list(templates), max_new_tokens

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._space = WordSpace().fit([case.response for case in cases])

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        columns = [[case.response for case in cases]]
        for template in self.templates:
            prompts = [reworded(case.prompt, template) for case in cases]
            found = replies_to(cases, prompts, max_new_tokens=self.max_new_tokens)
            columns.append([replies[0] for replies in found])
        return spread(self._space, list(zip(*columns, strict=True)))
