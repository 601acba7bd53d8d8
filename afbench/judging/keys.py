"""Keys of judges: from the environment only, and never in a message."""

from __future__ import annotations

import os

from afbench.errors import JudgeError, JudgeUnavailableError
from afbench.remote.wire import host_of as host_of
from afbench.remote.wire import without as without


def key_from(variable: str) -> str | None:
    """The key in an environment variable, without white space around it; None if there is none.

    Raises:
        JudgeError: it holds characters that no header can carry (the message does not show them).
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise JudgeError(
            f"the key in {variable} holds characters that no key has",
            fix="set it again, as one line without spaces",
        )
    return key


def needed_key(variable: str, judge: str) -> str:
    """The key in an environment variable.

    Raises:
        JudgeUnavailableError: there is none.
        JudgeError: as `key_from`.
    """
    key = key_from(variable)
    if key is None:
        raise JudgeUnavailableError(
            f"the judge '{judge}' finds no key in {variable}",
            fix="set it, or use the judge 'rules', which needs none",
        )
    return key
