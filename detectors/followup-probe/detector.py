"""Ask about the reply, and read what is there before the answer is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.detection import Case, Detector
from afbench.detection.answers import question_states
from afbench.detection.places import choose_place, thinned
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields


class FollowupProbe(Detector):
    """Logistic regression at one layer of the token before the answer to one question.

    Args:
        questions: of which one is chosen.
        strengths: inverse penalties that may be chosen.
        seed: of the cross-validation folds.
    """

    fitted = fields(question=str, layer=int, strength=float, fit_auroc=float, probe=LogisticProbe)

    def __init__(self, questions: Sequence[str], strengths: Sequence[float], seed: int = 0) -> None:
        self.questions, self.strengths = list(questions), list(strengths)
        self.seed = seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        states = question_states(cases, self.questions)
        layers = list(range(1, states.shape[2]))
        # The questions stand where poolings do: one place is one of them and a layer.
        place = choose_place(
            states[:, :, 1:],
            self.questions,
            layers,
            cases,
            labels,
            strengths=self.strengths,
            seed=self.seed,
        )
        self.question, self.layer = place.pooling, place.layer
        self.strength, self.fit_auroc = place.strength, place.auroc
        chosen = states[:, self.questions.index(self.question), self.layer]
        rows = thinned(cases, len(cases))
        self.probe = LogisticProbe(self.strength).fit(chosen[rows], labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.probe.score(question_states(cases, [self.question], [self.layer])[:, 0, 0])

    def explain(self) -> dict[str, str | float | int]:
        chosen: dict[str, str | float | int] = {
            "question": self.question,
            "layer": self.layer,
            "strength": self.strength,
        }
        if not np.isnan(self.fit_auroc):
            chosen["fit_auroc"] = round(self.fit_auroc, 4)
        return chosen
