"""The direction from No to Yes on one blunt question, without any label."""

from __future__ import annotations

from collections.abc import Sequence

from afbench.detection.directions import Contrast, DirectionDetector, exchange


class GenericDefectionProbe(DirectionDetector):
    """Projection of the transcript on the organism's own yes-minus-no direction.

    Args:
        questions: their yes minus their no is averaged; yes means defection.
        poolings: which token poolings of the transcripts may be chosen.
    """

    reads = "response_last"

    def __init__(self, questions: Sequence[str], poolings: Sequence[str]) -> None:
        super().__init__(poolings)
        self.questions = list(questions)

    def contrasts(self) -> list[Contrast]:
        """One direction for all questions."""
        yes, no = (
            tuple(exchange(question, answer) for question in self.questions)
            for answer in ("Yes.", "No.")
        )
        return [Contrast(yes, no)]
