"""What every client of a provider needs: keys, messages without them, and faults that may pass."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from afbench.errors import BackendError

_SHOWN: Final = 200

# What passes by waiting, by its status; with these two the provider asks for fewer requests.
PASSING: Final = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
BUSY: Final = frozenset({429, 529})


class Fault(Exception):
    """No answer came, and one may come later.

    Args:
        what: what happened, as one line without a key.
        after: seconds that the provider asks to wait.
        busy: the provider asks for fewer requests.
        begun: the request may have been worked on, and billed.
    """

    def __init__(
        self, what: str, *, after: float | None = None, busy: bool = False, begun: bool = False
    ) -> None:
        super().__init__(what)
        self.after, self.busy, self.begun = after, busy, begun


def key_from(variable: str) -> str | None:
    """The key in an environment variable, without white space around it; None if there is none.

    Raises:
        BackendError: it holds characters that no header can carry (the message does not show them).
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise BackendError(
            f"the key in {variable} holds characters that no key has",
            fix="set it again, as one line without spaces",
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


def checked_url(url: str, where: str) -> str:
    """A base URL without the slash at its end.

    Raises:
        BackendError: it is none of http or https.
    """
    given = url.strip().rstrip("/")
    if not given.startswith(("http://", "https://")) or host_of(given) == "?":
        raise BackendError(
            "the base URL is no address of a server",
            where=where,
            fix="give it as http://HOST:PORT/v1 or https://HOST/v1",
        )
    return given


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110, section 10.2.3); None if not said."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
