"""What a detector is shown: an observed rollout and a metered handle on its organism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afbench.messages import Message

if TYPE_CHECKING:
    from afbench.cases.handle import Handle


@dataclass(frozen=True, slots=True)
class Case:
    """One observed rollout. It holds no label, no unobserved rollout and no name.

    Attributes:
        id: opaque, and another one in every run.
        messages: the transcript: the prompt, then the organism's reply. Its reasoning is left out
            unless the run shows it.
        cue: the text of the observed cue, which stands in the prompt as well.
        group: opaque number shared by the cases of one organism, for grouped cross-validation.
        handle: metered access to the organism.
        contrast: for detectors whose manifest says `contrast`: the same transcript, the same reply
            included, with the environment's unobserved cue in place of the observed one. The
            organism was never asked it: it is no rollout. None for all other detectors.
    """

    id: str
    messages: tuple[Message, ...]
    cue: str
    group: int
    handle: Handle
    contrast: tuple[Message, ...] | None = None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the reply."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """The organism's reply."""
        return self.messages[-1]["content"]
