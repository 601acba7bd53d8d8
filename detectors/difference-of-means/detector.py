"""The simplest direction: from the mean of sincere cases to the mean of faking ones."""

from __future__ import annotations

from afbench.detection.linear import MeansProbe
from afbench.detection.places import PlaceDetector, place_fields


class DifferenceOfMeans(PlaceDetector):
    """Projection on the difference of the class means at one layer and pooling."""

    fitted = place_fields(MeansProbe)

    def classifier(self, strength: float) -> MeansProbe:
        """Nothing of it is regularised."""
        return MeansProbe(strength)
