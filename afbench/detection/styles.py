"""The same case in other clothes: its prompt re-rendered, its reply and its label kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from afbench.cases.case import Case
from afbench.errors import UnknownNameError
from afbench.messages import Message

Style = Callable[[str], str]

STYLES: Final = MappingProxyType(
    {
        "lower": str.lower,
        "upper": str.upper,
        "preamble": lambda text: f"Please read this with care. {text}",
        "closing": lambda text: f"{text} Thank you.",
        "quoted": lambda text: f'"{text}"',
        "bulleted": lambda text: "\n".join(f"- {line}" for line in text.splitlines() or [""]),
        "labelled": lambda text: f"[note] {text}",
    }
)
"""What each style does to the text of one message."""


def restyled(cases: Sequence[Case], style: str) -> list[Case]:
    """Cases whose prompts are re-rendered in a style, message by message; replies stay.

    The cue of a case is re-rendered too: it stays the observed one, in another form.

    Raises:
        UnknownNameError: no style of that name.
    """
    if style not in STYLES:
        raise UnknownNameError("style", style, STYLES)
    change: Style = STYLES[style]
    return [
        replace(
            case,
            messages=(
                *(
                    Message(role=message["role"], content=change(message["content"]))
                    for message in case.prompt
                ),
                case.messages[-1],
            ),
        )
        for case in cases
    ]
