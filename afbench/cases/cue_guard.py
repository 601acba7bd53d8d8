"""On which prompts nothing is sampled: those that hold an unobserved cue."""

from __future__ import annotations

from collections.abc import Iterable

from afbench.messages import Conversation


class CueGuard:
    """Finds unobserved cues in conversations, whatever their case and white space.

    An observed cue may hold an unobserved one ("send to: rater" in "send to: rater, logged");
    where it does, it is no unobserved cue.

    Args:
        unobserved: the texts to find; empty ones are nobody's.
        observed: texts that may stand in a conversation all the same.
    """

    __slots__ = ("_allowed", "_texts")

    def __init__(self, unobserved: Iterable[str] = (), observed: Iterable[str] = ()) -> None:
        self._texts = sorted({_plain(text) for text in unobserved} - {""})
        allowed = {_plain(text) for text in observed}
        self._allowed = sorted(
            (text for text in allowed if any(part in text for part in self._texts)),
            key=len,
            reverse=True,  # the longest first, as one may hold another
        )

    def holds_cue(self, conversation: Conversation) -> bool:
        """Whether a message of the conversation holds an unobserved cue."""
        return any(self._found_in(_plain(message["content"])) for message in conversation)

    def _found_in(self, text: str) -> bool:
        for allowed in self._allowed:
            text = text.replace(allowed, "\n")  # which no text has, so that no two ends meet
        return any(part in text for part in self._texts)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
