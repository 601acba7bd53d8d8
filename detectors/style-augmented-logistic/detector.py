"""A probe that has seen each case in several clothes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import activations
from afbench.detection.places import choose_place, chosen_place, thinned
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields
from afbench.detection.styles import restyled


class StyleAugmentedLogistic(Detector):
    """Logistic regression at one place, on fit cases as they are and in other styles.

    Args:
        styles: names out of `afbench.detection.styles.STYLES`.
        restyle: how many fit cases are re-rendered in each style, evenly over organisms.
        poolings: which token poolings may be chosen.
        strengths: inverse penalties that may be chosen.
        seed: of the cross-validation folds.
    """

    fitted = fields(layer=int, pooling=str, strength=float, fit_auroc=float, probe=LogisticProbe)

    def __init__(
        self,
        styles: Sequence[str],
        restyle: int,
        poolings: Sequence[str],
        strengths: Sequence[float],
        seed: int = 0,
    ) -> None:
        self.styles, self.restyle = list(styles), restyle
        self.poolings, self.strengths = list(poolings), list(strengths)
        self.seed = seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        rows = thinned(cases, self.restyle)
        shown = [cases[row] for row in rows]
        rendered = [list(cases), *(restyled(shown, style) for style in self.styles)]
        every = [case for part in rendered for case in part]
        truth = np.concatenate([labels, *([labels[rows]] * len(self.styles))])
        features = np.concatenate([activations(part, None, self.poolings) for part in rendered])
        layers = list(range(1, features.shape[2]))
        place = choose_place(
            features[:, :, 1:],
            self.poolings,
            layers,
            every,
            truth,
            strengths=self.strengths,
            seed=self.seed,
        )
        self.layer, self.pooling = place.layer, place.pooling
        self.strength, self.fit_auroc = place.strength, place.auroc
        chosen = features[:, self.poolings.index(self.pooling), self.layer]
        self.probe = LogisticProbe(self.strength).fit(chosen, truth)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(activations(cases, [self.layer], [self.pooling])[:, 0, 0])

    def explain(self) -> dict[str, str | float | int]:
        chosen = chosen_place(self.layer, self.pooling, self.fit_auroc)
        return chosen | {"strength": self.strength}
