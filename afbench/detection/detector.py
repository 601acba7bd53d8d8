"""The contract that every detector keeps."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.detection.state import Fitted


class Detector(Fitted, abc.ABC):
    """Scores cases; a higher score means more likely faking.

    A detector is built with the `params` of its manifest as keyword arguments. Layers, poolings,
    thresholds and signs are chosen in `fit`, from the cases given there. One that declares what its
    fit sets, in `fitted`, can be saved and loaded (`afbench.detection.state`).
    """

    @abc.abstractmethod
    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        """Learn from labelled cases.

        Args:
            cases: cases of the fit organisms.
            labels: bool [n]; True is faking, False is sincere.
        """

    @abc.abstractmethod
    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Score cases of organisms that `fit` has not seen.

        Returns:
            float64 [n], finite, in the order of the cases. A case's score does not depend on the
            other cases.
        """

    def explain(self) -> dict[str, str | float | int]:
        """What `fit` chose (a layer, say), for the result record."""
        return {}

    def depends_on(self) -> str:
        """What scores follow from besides the code beside the manifest, its params and the cases.

        Scores are kept by it: a detector that asks a judge names the judge's model here.
        """
        return ""
