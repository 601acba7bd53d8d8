"""One sparse latent, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.features import groups_of
from afbench.detection.places import best_column, thinned
from afbench.detection.sae import Latents
from afbench.detection.state import fields


class SaeLatent(Detector):
    """Largest activation over the reply of the latent that tells fit organisms best.

    The sign is fixed: more of the latent is more suspicious.

    Args:
        poolings: what the layer is chosen with.
        autoencoder: options of the autoencoder that is trained.
        published: of one that is loaded in its place; see `afbench.detection.sae.Latents`.
        seed: of folds, weights and batches.
    """

    fitted = fields(latents=Latents, latent=int, fit_auroc=float)

    def __init__(
        self,
        poolings: Sequence[str],
        autoencoder: Mapping[str, int] | None = None,
        published: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.poolings = list(poolings)
        self.options: dict[str, Any] = {
            "options": autoencoder,
            "published": published,
            "seed": seed,
        }

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self.latents = Latents(self.poolings, **self.options).fit(cases, labels)
        rows = thinned(cases, self.latents.most_cases)
        largest = self.latents.pooled([cases[row] for row in rows])[:, 0]
        found = best_column(largest, labels[rows], groups_of(cases)[rows])
        self.latent, self.fit_auroc = found

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.latents.pooled(cases)[:, 0, self.latent]

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {
            "layer": self.latents.layer,
            "latent": self.latent,
        }
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen
