"""Two shapes that most detectors have: a few features and a probe, or a score of fixed sign."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.detection.detector import Detector
from afbench.detection.probes import LogisticProbe
from afbench.detection.state import fields


class LogisticDetector(Detector):
    """Logistic regression on a few features: the fit organisms decide their signs and weights.

    `names` are those of the features, for `explain`.

    Args:
        strength: inverse of the L2 penalty.
    """

    fitted = fields(_probe=LogisticProbe)
    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    @abc.abstractmethod
    def features(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """float64 [n, d], each row from its case alone."""

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self._probe = LogisticProbe(self.strength).fit(self.features(cases), labels)

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self._probe.score(self.features(cases))

    def explain(self) -> dict[str, str | float | int]:
        weights, _ = self._probe.direction()
        return {
            f"weight of {name}": round(float(weight), 4)
            for name, weight in zip(self.names, weights, strict=False)
        }


class FixedDetector(Detector):
    """A score whose sign was fixed before any label was seen: there is nothing to fit."""

    fitted = fields()

    @abc.abstractmethod
    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """float64 [n], higher = more likely faking, each from its case alone."""

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        """Learns nothing."""

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return self.suspicion(cases)

    def explain(self) -> dict[str, str | float | int]:
        return {"sign": "fixed in advance"}
