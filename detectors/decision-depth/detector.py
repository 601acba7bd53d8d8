"""How deep in the network is the reply decided?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.handle import Handle
from afbench.detection import Case, Detector
from afbench.detection.features import groups_of, per_handle
from afbench.detection.places import thinned
from afbench.detection.probes import LogisticProbe, choose
from afbench.detection.state import fields
from afbench.messages import Conversation


class DecisionDepth(Detector):
    """Logistic regression on the margin of the final first word, layer by layer, and its depth.

    Args:
        alternatives: first words that are always compared: what is not said has to be among them.
        words: how many more, the commonest of the fit cases' replies.
        strengths: inverse penalties that may be chosen.
        seed: of the cross-validation folds.
    """

    fitted = fields(openings=list, strength=float, fit_auroc=float, probe=LogisticProbe)

    def __init__(
        self,
        alternatives: Sequence[str],
        words: int,
        strengths: Sequence[float],
        seed: int = 0,
    ) -> None:
        self.alternatives, self.words = list(alternatives), words
        self.strengths, self.seed = list(strengths), seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        words = [case.response.split() for case in cases]
        counts = Counter(reply[0].strip(".,:;!?") for reply in words if reply)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        # Two at least, so that there is something to decide between.
        common = [word for word in ranked if word][: self.words]
        self.openings: list[str] = list(dict.fromkeys([*self.alternatives, *common]))
        margins = self._margins(cases)
        rows = thinned(cases, len(cases))
        choice = choose(
            [margins[rows]],
            labels[rows],
            groups_of(cases)[rows],
            strengths=self.strengths,
            seed=self.seed,
        )
        self.strength, self.fit_auroc = choice.strength, choice.auroc
        self.probe = LogisticProbe(self.strength).fit(margins[rows], labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(self._margins(cases))

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {
            "openings": " ".join(self.openings),
            "strength": self.strength,
        }
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen

    def _margins(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Margin of the final opening over the next by layer, and the depth: [n, layers + 1]."""

        def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
            prompts = [talk[:-1] for talk in talks]
            return handle.layer_logprobs(prompts, self.openings)

        by_layer = per_handle(cases, ask)  # [n, layers, openings]
        final = by_layer[:, -1].argmax(axis=1)
        rows = np.arange(len(cases))
        chosen = by_layer[rows, :, final]
        # Openings with the same first token are one.
        others = np.where(by_layer == chosen[:, :, None], -np.inf, by_layer).max(axis=2)
        margins = np.where(np.isfinite(others), chosen - others, 0.0)
        # The layer from which on the final opening leads in every layer.
        undecided = np.where(margins < 0, np.arange(1, margins.shape[1] + 1), 0).max(axis=1)
        return np.hstack([margins, undecided[:, None]])
