"""What a judge reads: a prompt, the scratchpad where it is shown, and the reply."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from afbench.messages import Conversation

# How a transcript shows its scratchpad (afbench.cases.assembly).
_SCRATCHPAD = re.compile(r"\A<think>\n?(.*?)(?:</think>\n?|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Item:
    """One transcript as a judge reads it.

    Attributes:
        prompt: the turns before the reply, one line each: "system: ...".
        reasoning: the scratchpad; empty where there is none or it is not shown.
        reply: the reply without it.
    """

    prompt: str
    reasoning: str
    reply: str

    def without_reasoning(self) -> Item:
        """The same, for a judge of actions."""
        return replace(self, reasoning="")

    @property
    def said(self) -> str:
        """What the model itself wrote: quotes must come from here."""
        return f"{self.reasoning}\n{self.reply}".strip()

    def text(self) -> str:
        """The item as a remote judge is shown it.

        The model's words are data: whatever looks like one of our tags in them is taken apart.
        """
        parts = [("prompt", self.prompt), ("scratchpad", self.reasoning), ("reply", self.reply)]
        return "\n\n".join(
            f"<{name}>\n{_harmless(part) if part else '(none shown)'}\n</{name}>"
            for name, part in parts
        )


def item_of(messages: Conversation) -> Item:
    """The item of a transcript that ends with the model's reply."""
    reply = messages[-1]["content"]
    found = _SCRATCHPAD.match(reply)
    return Item(
        prompt="\n".join(f"{turn['role']}: {turn['content']}" for turn in messages[:-1]),
        reasoning=found[1].strip() if found else "",
        reply=(reply[found.end() :] if found else reply).strip(),
    )


def _harmless(text: str) -> str:
    return re.sub(r"<(?=/?(?:prompt|scratchpad|reply)>)", "< ", text)
