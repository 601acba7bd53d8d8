"""Which of two role-played personas does it resemble?"""

from __future__ import annotations

from collections.abc import Sequence

from afbench.detection.directions import Contrast, DirectionDetector, exchange


class PersonaDirection(DirectionDetector):
    """Projection on the difference between two role-played personas.

    Args:
        two_faced: system prompts of one who acts by who looks.
        same: as many system prompts of one who acts the same whoever looks.
        exchanges: requests and replies under each system prompt, the same for both.
        poolings: which token poolings of the transcripts may be chosen.
    """

    def __init__(
        self,
        two_faced: Sequence[str],
        same: Sequence[str],
        exchanges: Sequence[tuple[str, str]],
        poolings: Sequence[str],
    ) -> None:
        super().__init__(poolings)
        self.two_faced, self.same = list(two_faced), list(same)
        self.exchanges = [tuple(pair) for pair in exchanges]

    def contrasts(self) -> list[Contrast]:
        """One direction, over all prompts and exchanges."""
        positives, negatives = (
            tuple(
                exchange(request, reply, system)
                for system in systems
                for request, reply in self.exchanges
            )
            for systems in (self.two_faced, self.same)
        )
        return [Contrast(positives, negatives)]
