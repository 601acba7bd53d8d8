"""The direction along which paired cases differ most."""

from __future__ import annotations

from afbench.detection.linear import LatProbe
from afbench.detection.places import PlaceDetector, place_fields


class Lat(PlaceDetector):
    """Projection on the first component of pair differences at one layer and pooling."""

    fitted = place_fields(LatProbe)

    def classifier(self, strength: float) -> LatProbe:
        """Pairs are drawn by the seed."""
        return LatProbe(strength, seed=self.seed)
