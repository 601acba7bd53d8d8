"""Keys of judges: from the environment only, and never in a message."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

from afbench.errors import JudgeError, JudgeUnavailableError

_SHOWN: Final = 200


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


def without(text: str, key: str | None) -> str:
    """A provider's message as one short line, the key taken out wherever it stands."""
    line = " ".join(text.split())
    if key:
        line = line.replace(key, "[key]")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def host_of(url: str) -> str:
    """The host and port of a URL: it may hold a password, and a query a key."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    try:
        return f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return host
