"""Sends a bundle to a server. The same bundle sent twice is one submission."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from afbench.errors import SubmissionError
from afbench.remote.wire import host_of, retry_after, without
from afbench.submission.bundle import archive_digest

TOKEN_VARIABLE: Final = "AFBENCH_TOKEN"
DIGEST_HEADER: Final = "X-Bundle-Digest"
PATH: Final = "/api/v1/submissions"

ATTEMPTS: Final = 5
_PASSING: Final = frozenset({408, 425, 502, 503, 504})
_MAX_REPLY: Final = 1_000_000
_LONGEST_WAIT: Final = 30.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a server says of a submission: its number there, its status, and where to look."""

    id: str
    status: str
    url: str


class _Passing(Exception):
    """No answer came, and one may come later.

    Args:
        what: what happened, as one line.
        after: seconds that the server asks to wait.
    """

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class Client:
    """Talks to one server.

    Args:
        url: of the server, without the path of its API.
        token: who sends; from $AFBENCH_TOKEN if None.
        wait: seconds before the second attempt; each further one waits twice as long.

    Raises:
        SubmissionError: the address is none, the token is missing, or it would travel in the open.
    """

    def __init__(self, url: str, token: str | None = None, *, wait: float = 1.0) -> None:
        self._url = _checked(url)
        self._token = _token(token)
        self._wait = wait

    def send(self, bundle: Path) -> Receipt:
        """Send a bundle, again where the connection breaks; the server takes it once.

        Args:
            bundle: a .tar.gz.

        Raises:
            SubmissionError: the server refuses it (its reason is shown), or cannot be reached.
        """
        headers = {"Content-Type": "application/gzip", DIGEST_HEADER: archive_digest(bundle)}
        return _receipt(self._asked("POST", self._url + PATH, headers, bundle.read_bytes()))

    def status(self, number: str) -> Receipt:
        """What has become of a submission.

        Raises:
            SubmissionError: the server knows none of that number, or cannot be reached.
        """
        if not number.replace("-", "").isalnum():
            raise SubmissionError(f"'{number[:40]}' is no number of a submission")
        return _receipt(self._asked("GET", f"{self._url}{PATH}/{number}", {}, None))

    def _asked(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Any:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._pause,
            reraise=True,
        )
        try:
            return retrying(self._once, method, url, headers, body)
        except _Passing as error:
            raise SubmissionError(
                f"{error}; tried {ATTEMPTS} times",
                where=host_of(self._url),
                fix="send it again later: what arrived is not taken twice",
            ) from None

    def _pause(self, state: Any) -> float:
        error = state.outcome.exception()
        asked = error.after if isinstance(error, _Passing) else None
        waited = self._wait * 2.0 ** (state.attempt_number - 1)
        return min(_LONGEST_WAIT, waited if asked is None else asked)

    def _once(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Any:
        import httpx2

        given = {**headers, "Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        try:
            with (
                httpx2.Client(timeout=60.0, follow_redirects=False) as client,
                client.stream(method, url, headers=given, content=body) as reply,
            ):
                content = b""
                for chunk in reply.iter_bytes():
                    content += chunk
                    if len(content) > _MAX_REPLY:
                        raise SubmissionError("the server's reply has no end", where=host_of(url))
                status, answered = reply.status_code, dict(reply.headers)
        except httpx2.TimeoutException:
            raise _Passing("the server does not answer in time") from None
        except httpx2.TransportError as error:
            raise _Passing(f"cannot reach the server: {without(str(error), self._token)}") from None
        if status in _PASSING:
            raise _Passing(f"the server is busy (status {status})", retry_after(answered))
        return self._judged(status, content, url)

    def _judged(self, status: int, content: bytes, url: str) -> Any:
        try:
            reply = json.loads(content)
        except (ValueError, RecursionError):
            reply = None
        if status in (200, 201, 202) and isinstance(reply, dict):
            return reply
        if isinstance(reply, dict) and isinstance(reply.get("error"), str):
            shown = {key: self._plain(reply.get(key)) for key in ("error", "where", "fix")}
            raise SubmissionError(shown["error"] or "", where=shown["where"], fix=shown["fix"])
        if status in (401, 403):
            what = "the server does not accept the token"
            raise SubmissionError(what, where=host_of(url), fix=f"check {TOKEN_VARIABLE}")
        raise SubmissionError(
            f"not the answer of an afbench server (status {status})",
            where=host_of(url),
            fix="check --to",
        )

    def _plain(self, text: Any) -> str | None:
        """A text of the server's as one line, without the token and without control characters."""
        if not isinstance(text, str) or not text.strip():
            return None
        return "".join(char for char in without(text, self._token) if char.isprintable())


def _receipt(reply: Any) -> Receipt:
    parts = [reply.get(key) for key in ("id", "status", "url")]
    if not all(isinstance(part, str | int) for part in parts[:2]):
        raise SubmissionError("the server's reply names no submission", fix="check --to")
    number, status, url = (
        "".join(filter(str.isprintable, str(part or "")))[:300] for part in parts
    )
    return Receipt(number, status, url)


def _checked(url: str) -> str:
    given = url.strip().rstrip("/")
    try:
        parts = urlsplit(given)
        host, named = parts.hostname, bool(parts.username or parts.password)
    except ValueError:
        host, named, parts = None, False, urlsplit("")
    if host is None or named or parts.scheme not in ("http", "https") or parts.query:
        raise SubmissionError(
            "not the address of a server", where="--to", fix="give it as https://HOST"
        )
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise SubmissionError(
            "over http anybody on the way can read the token", where="--to", fix="use https"
        )
    return given


def _token(given: str | None) -> str:
    token = (given if given is not None else os.environ.get(TOKEN_VARIABLE, "")).strip()
    if not token:
        raise SubmissionError(
            "no token to send with",
            where=TOKEN_VARIABLE,
            fix="set it to the one that you were given",
        )
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SubmissionError("holds characters that no token has", where=TOKEN_VARIABLE)
    return token
