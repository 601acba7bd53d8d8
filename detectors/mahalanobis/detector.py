"""How unlike sincere cases is it?"""

from __future__ import annotations

from afbench.detection.anomaly import MahalanobisDistance
from afbench.detection.places import PlaceDetector, place_fields


class Mahalanobis(PlaceDetector):
    """Distance from the sincere mean at one place; faking cases only help to choose the place."""

    fitted = place_fields(MahalanobisDistance)

    def classifier(self, strength: float) -> MahalanobisDistance:
        """A strength is a share of shrinkage; 0 is that of Ledoit and Wolf."""
        return MahalanobisDistance(strength)
