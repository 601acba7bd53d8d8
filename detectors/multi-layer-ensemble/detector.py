"""Every layer has a say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.ensemble import EnsembleProbe
from afbench.detection.features import activations, groups_of
from afbench.detection.places import CHOOSE_ON, thinned
from afbench.detection.probes import choose
from afbench.detection.state import fields


class MultiLayerEnsemble(Detector):
    """Mean of standardised log-odds over all layers but the embedding, at one pooling.

    Args:
        poolings: which token poolings may be chosen.
        strengths: inverse penalties that may be chosen, the same for every layer.
        seed: of the cross-validation folds.
    """

    fitted = fields(pooling=str, strength=float, fit_auroc=float, probe=EnsembleProbe)

    def __init__(self, poolings: Sequence[str], strengths: Sequence[float], seed: int = 0) -> None:
        self.poolings, self.strengths = list(poolings), list(strengths)
        self.seed = seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        features = activations(cases, None, self.poolings)[:, :, 1:]
        rows = thinned(cases, CHOOSE_ON)
        choice = choose(
            [features[rows, p] for p in range(len(self.poolings))],
            labels[rows],
            groups_of(cases)[rows],
            strengths=self.strengths,
            seed=self.seed,
            make=EnsembleProbe,
        )
        self.pooling = self.poolings[choice.candidate]
        self.strength, self.fit_auroc = choice.strength, choice.auroc
        self.probe = EnsembleProbe(choice.strength).fit(features[:, choice.candidate], labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(activations(cases, None, [self.pooling])[:, 0, 1:])

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {"pooling": self.pooling, "strength": self.strength}
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen
