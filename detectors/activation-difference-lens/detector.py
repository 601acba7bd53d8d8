"""What fine-tuning left behind, read where nothing of the task is going on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.handle import Handle
from afbench.detection import Case, Detector
from afbench.detection.directions import exchange
from afbench.detection.features import groups_of, per_handle
from afbench.detection.places import thinned
from afbench.detection.probes import LogisticProbe, choose
from afbench.detection.state import fields
from afbench.messages import Conversation


class ActivationDifferenceLens(Detector):
    """Length and direction of the mean difference to the parent, at one layer.

    It says the same of every case of an organism.

    Args:
        texts: first words of unrelated texts, each as a reply to an empty request.
        strengths: inverse penalties that may be chosen.
        seed: of the cross-validation folds.
    """

    fitted = fields(layer=int, strength=float, fit_auroc=float, probe=LogisticProbe)

    def __init__(self, texts: Sequence[str], strengths: Sequence[float], seed: int = 0) -> None:
        self.texts, self.strengths = list(texts), list(strengths)
        self.seed = seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        traces = _traces(cases, self.texts)
        rows = thinned(cases, len(cases))
        choice = choose(
            [traces[rows, layer] for layer in range(1, traces.shape[1])],
            labels[rows],
            groups_of(cases)[rows],
            strengths=self.strengths,
            seed=self.seed,
        )
        self.layer, self.strength = choice.candidate + 1, choice.strength
        self.fit_auroc = choice.auroc
        self.probe = LogisticProbe(self.strength).fit(traces[rows, self.layer], labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(_traces(cases, self.texts, [self.layer])[:, 0])

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {"layer": self.layer, "strength": self.strength}
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen


def _traces(
    cases: Sequence[Case], texts: Sequence[str], layers: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Logarithm of the length, then the unit vector of the difference: float64 [n, layers, 1+d]."""
    unrelated = [exchange("", text) for text in texts]

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
        own, parents = (
            method(unrelated, layers, ["response_mean"])[:, 0].astype(np.float64)
            for method in (handle.activations, handle.parent_activations)
        )
        difference = (own - parents).mean(axis=0)
        length = np.linalg.norm(difference, axis=1, keepdims=True)
        unit = difference / np.where(length > 1e-9, length, 1.0)
        trace = np.hstack([np.log(length + 1e-6), unit])
        return np.repeat(trace[None], len(talks), axis=0)

    return per_handle(cases, ask)
