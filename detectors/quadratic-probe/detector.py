"""Does it help to see products of what a linear probe sees?"""

from __future__ import annotations

from collections.abc import Sequence

from afbench.detection.nonlinear import QuadraticProbe
from afbench.detection.places import PlaceDetector, place_fields
from afbench.detection.probes import Classifier, LogisticProbe


class QuadraticDetector(PlaceDetector):
    """A quadratic form at one place; a strength is an inverse L2 penalty.

    Args:
        poolings, strengths, seed: as for every detector that reads one place.
        rank: of the quadratic form.
    """

    fitted = place_fields(QuadraticProbe)

    def __init__(
        self, poolings: Sequence[str], strengths: Sequence[float], rank: int = 16, seed: int = 0
    ) -> None:
        super().__init__(poolings, strengths, seed)
        self.rank = rank

    def classifier(self, strength: float) -> QuadraticProbe:
        """On so many components."""
        return QuadraticProbe(strength, self.rank)

    def chooser(self, strength: float) -> Classifier:
        """A linear probe for every place; its choice is not sensitive to the penalty."""
        return LogisticProbe(0.01)
