"""How soon do random cuts part it from sincere cases?"""

from __future__ import annotations

from collections.abc import Sequence

from afbench.detection.anomaly import ForestDistance, MahalanobisDistance
from afbench.detection.places import PlaceDetector, place_fields


class IsolationForestDetector(PlaceDetector):
    """An isolation forest at one place; a strength is how many components it cuts on.

    Args:
        poolings, strengths, seed: as for every detector that reads one place.
        trees: how many.
        samples: sincere cases per tree.
    """

    fitted = place_fields(ForestDistance)

    def __init__(
        self,
        poolings: Sequence[str],
        strengths: Sequence[float],
        trees: int = 100,
        samples: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(poolings, strengths, seed)
        self.trees, self.samples = trees, samples

    def classifier(self, strength: float) -> ForestDistance:
        """A forest of its own seed."""
        return ForestDistance(strength, self.trees, self.samples, self.seed)

    def chooser(self, strength: float) -> MahalanobisDistance:
        """The other distance from sincere cases: a forest for every place takes too long."""
        return MahalanobisDistance()
