"""The difference of means, corrected for the directions in which everything varies."""

from __future__ import annotations

from afbench.detection.linear import LdaProbe
from afbench.detection.places import PlaceDetector, place_fields


class Lda(PlaceDetector):
    """Linear discriminant analysis at one layer and pooling; a strength is a share of shrinkage."""

    fitted = place_fields(LdaProbe)

    def classifier(self, strength: float) -> LdaProbe:
        """A share of 0 is that of Ledoit and Wolf."""
        return LdaProbe(strength)
