"""A probe on sparse latents in place of raw activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import groups_of
from afbench.detection.places import thinned
from afbench.detection.probes import choose
from afbench.detection.sae import Latents, SelectedProbe
from afbench.detection.state import fields


class SaeLogistic(Detector):
    """Logistic regression on the latents, pooled by maximum and mean, that differ most.

    Args:
        poolings: what the layer is chosen with.
        counts: how many latents may be selected.
        autoencoder: options of the autoencoder that is trained.
        published: of one that is loaded in its place; see `afbench.detection.sae.Latents`.
        seed: of folds, weights and batches.
    """

    fitted = fields(latents=Latents, count=float, fit_auroc=float, probe=SelectedProbe)

    def __init__(
        self,
        poolings: Sequence[str],
        counts: Sequence[float],
        autoencoder: Mapping[str, int] | None = None,
        published: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.counts, self.seed = list(counts), seed
        self.options: dict[str, Any] = {
            "options": autoencoder,
            "published": published,
            "seed": seed,
        }
        self.poolings = list(poolings)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self.latents = Latents(self.poolings, **self.options).fit(cases, labels)
        rows = thinned(cases, self.latents.most_cases)
        features = self._features([cases[row] for row in rows])
        choice = choose(
            [features],
            labels[rows],
            groups_of(cases)[rows],
            strengths=self.counts,
            seed=self.seed,
            make=SelectedProbe,
        )
        self.count, self.fit_auroc = choice.strength, choice.auroc
        self.probe = SelectedProbe(self.count).fit(features, labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(self._features(cases))

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {
            "layer": self.latents.layer,
            "features": int(self.count),
        }
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen

    def _features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        pooled = self.latents.pooled(cases)
        return pooled.reshape(len(pooled), -1)
