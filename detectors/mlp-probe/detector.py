"""Is there something that a linear probe cannot read?"""

from __future__ import annotations

from collections.abc import Sequence

from afbench.detection.nonlinear import MlpProbe
from afbench.detection.places import PlaceDetector, place_fields
from afbench.detection.probes import LogisticProbe


class MlpDetector(PlaceDetector):
    """One hidden layer at one place; a strength is the weight decay.

    Args:
        poolings, strengths, seed: as for every detector that reads one place.
        hidden: units of the hidden layer.
        steps: of the optimiser.
    """

    fitted = place_fields(MlpProbe)

    def __init__(
        self,
        poolings: Sequence[str],
        strengths: Sequence[float],
        hidden: int = 32,
        steps: int = 150,
        seed: int = 0,
    ) -> None:
        super().__init__(poolings, strengths, seed)
        self.hidden, self.steps = hidden, steps

    def classifier(self, strength: float) -> MlpProbe:
        """A network of its own seed."""
        return MlpProbe(strength, self.hidden, self.steps, seed=self.seed)

    def chooser(self, strength: float) -> LogisticProbe:
        """A linear probe: a network for every layer and fold would take too long."""
        return LogisticProbe(0.01)
