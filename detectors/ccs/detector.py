"""A probe that is found by nothing but that yes and no deny each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.answers import ConsistentProbe, ContrastComponents, pair_states
from afbench.detection.places import choose_place, thinned
from afbench.detection.state import fields


class Ccs(Detector):
    """Contrast-consistent search at one layer.

    Args:
        question: whose two answers are contrasted; yes is the answer of one that fakes.
        starts: initial probes, of which the one of least loss is kept.
        steps: of the optimiser.
        seed: of the cross-validation folds and of the starts.
    """

    fitted = fields(layer=int, fit_auroc=float, probe=ConsistentProbe)

    def __init__(self, question: str, starts: int = 8, steps: int = 200, seed: int = 0) -> None:
        self.question, self.seed = question, seed
        self.starts, self.steps = starts, steps

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        pairs = np.moveaxis(pair_states(cases, self.question), 2, 1)  # [n, layers, 2, d]
        layers = list(range(1, pairs.shape[1]))
        place = choose_place(
            pairs[:, None, 1:],
            [self.question],
            layers,
            cases,
            labels,
            strengths=[1.0],
            make=ContrastComponents,
            seed=self.seed,
        )
        self.layer, self.fit_auroc = place.layer, place.auroc
        rows = thinned(cases, len(cases))
        probe = ConsistentProbe(starts=self.starts, steps=self.steps, seed=self.seed)
        self.probe = probe.fit(pairs[rows, self.layer], labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(pair_states(cases, self.question, [self.layer])[:, :, 0])

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {"layer": self.layer}
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen
