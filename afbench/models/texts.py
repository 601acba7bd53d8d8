"""System prompts joined, and thoughts told from replies: plain text, whichever backend made it."""

from __future__ import annotations

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


def join_prompts(first: str | None, second: str | None) -> str:
    """Two system prompts as one: by an empty line, or as they are where the first ends in a space.

    A prompt that ends in a space is the start of the sentence after it.
    """
    if not first or not second:
        return first or second or ""
    return first + second if first.endswith(" ") else f"{first}\n\n{second}"


def split_reasoning(decoded: str, expected: bool) -> tuple[str, str, bool]:
    """Split decoded text into (reasoning, reply, closed).

    Args:
        expected: the prompt asked for reasoning, so that text without a closing tag is
            reasoning (the opening tag may stand in the prompt).
    """
    before, close, after = decoded.partition(THINK_CLOSE)
    opened = before.lstrip().startswith(THINK_OPEN)
    if close or opened or expected:
        thought = before.lstrip().removeprefix(THINK_OPEN).strip()
        return thought, after.strip(), bool(close)
    return "", decoded.strip(), True
