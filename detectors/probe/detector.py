"""The white-box baseline: a linear probe on what the organism computes while it is observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.explaining import LayerMap, TokenScores, map_places, score_tokens
from afbench.detection.features import activations, groups_of
from afbench.detection.probes import LogisticProbe, choose
from afbench.detection.state import fields


class Probe(Detector):
    """Standardised L2 logistic regression on one layer and pooling of the residual stream.

    Args:
        poolings: which token poolings may be chosen.
        strengths: inverse penalties that may be chosen.
        seed: of the cross-validation folds.
    """

    fitted = fields(pooling=int, layer=int, strength=float, fit_auroc=float, _probe=LogisticProbe)

    def __init__(self, poolings: Sequence[str], strengths: Sequence[float], seed: int = 0) -> None:
        self.poolings, self.strengths = list(poolings), list(strengths)
        self.seed = seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        features = activations(cases, None, self.poolings)
        layers = features.shape[2]
        # Layer 0 is the embedding, a floor of its own: it is no candidate here.
        grid = [(p, layer) for p in range(len(self.poolings)) for layer in range(1, layers)]
        choice = choose(
            [features[:, p, layer] for p, layer in grid],
            labels,
            groups_of(cases),
            strengths=self.strengths,
            seed=self.seed,
        )
        self.pooling, self.layer = grid[choice.candidate]
        self.strength, self.fit_auroc = choice.strength, choice.auroc
        chosen = features[:, self.pooling, self.layer]
        self._probe = LogisticProbe(self.strength).fit(chosen, labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        pooling = [self.poolings[self.pooling]]
        features = activations(cases, [self.layer], pooling)
        return self._probe.score(features[:, 0, 0])

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {
            "layer": self.layer,
            "pooling": self.poolings[self.pooling],
            "strength": self.strength,
        }
        if not np.isnan(self.fit_auroc):  # there were organisms enough to hold one out
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen

    def layer_map(
        self, cases: Sequence[Case], labels: NDArray[np.bool_], further: Sequence[Case]
    ) -> LayerMap:
        return map_places(
            cases,
            labels,
            further,
            poolings=self.poolings,
            strength=self.strengths[len(self.strengths) // 2],  # which chose the place, too
            seed=self.seed,
        )

    def token_scores(self, cases: Sequence[Case]) -> Sequence[TokenScores]:
        return score_tokens(cases, self.layer, self._probe.score)
