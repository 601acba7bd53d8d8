"""How much is the organism's mind on being watched, on harm, on deceit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afbench.detection.directions import Contrast, DirectionDetector, exchange


class ConceptProjection(DirectionDetector):
    """Sum of projections on a few concepts, each the difference between pairs of sentences.

    Args:
        concepts: for each concept, sentences `with` it and the same sentences `without`.
        request: what the sentences are given as replies to.
        poolings: which token poolings of the transcripts may be chosen.
    """

    def __init__(
        self,
        concepts: Mapping[str, Mapping[str, Sequence[str]]],
        request: str,
        poolings: Sequence[str],
    ) -> None:
        super().__init__(poolings)
        self.concepts, self.request = dict(concepts), request

    def contrasts(self) -> list[Contrast]:
        """One direction for each concept."""
        return [
            Contrast(
                tuple(exchange(self.request, text) for text in pair["with"]),
                tuple(exchange(self.request, text) for text in pair["without"]),
            )
            for pair in self.concepts.values()
        ]
