"""Is faking one direction, or does it take a few?"""

from __future__ import annotations

from afbench.detection.linear import SubspaceProbe
from afbench.detection.places import PlaceDetector, place_fields


class PcaSubspace(PlaceDetector):
    """Logistic regression inside a few components; a strength is their number."""

    fitted = place_fields(SubspaceProbe)

    def classifier(self, strength: float) -> SubspaceProbe:
        """In a space of so many components."""
        return SubspaceProbe(strength)
