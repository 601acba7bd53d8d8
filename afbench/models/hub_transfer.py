"""Talking to a model hub: requests with patience, faults in one line, and transfers that resume.

The bytes are fetched here, because huggingface_hub (2.4) throws a half-fetched file away when the
process ends, and its own waiting for a busy hub cannot be bounded. Its session, headers, addresses
and errors are used throughout, so that proxies, tokens and HF_* variables act as everywhere.

No message holds text of the client's exceptions: it may quote the token or a signed address.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep
from typing import Final, TypeVar

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, not exported
    build_hf_headers,
    hf_raise_for_status,
)

from afbench import __version__
from afbench.errors import AfbenchError

try:
    import httpx2 as httpx
except ImportError:  # huggingface_hub before 2.0
    import httpx  # type: ignore[import-not-found,no-redef,unused-ignore]

T = TypeVar("T")
Announce = Callable[[str], None]
"""Called with a line for the user."""
Received = Callable[[int], None]
"""Called with a number of bytes that came; negative for bytes that were thrown away."""

# Seconds before each new attempt, where the hub does not say how long to wait.
PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
LONGEST_WAIT: Final = 300.0  # a window of the hub's rate limits
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})


class TransferError(Exception):
    """A file came, and is shorter or longer than the hub says it is."""


# What may be raised while talking to the hub or writing what came. ValueError: an answer that is
# no JSON, or a token that no header can hold.
FAULTS: Final = (
    httpx.HTTPError, httpx.InvalidURL, TransferError, OSError, ValueError, KeyError, TypeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a hub, and how messages speak of it.

    Attributes:
        repo_id: `owner/name`.
        revision: a commit; None for the newest.
        endpoint: the hub's address.
        where: the organism that it is fetched for, for messages.
    """

    repo_id: str
    revision: str | None
    endpoint: str
    where: str | None = None

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"

    @property
    def host(self) -> str:
        """The hub's host, without what else an address may hold (a password)."""
        address = self.endpoint.partition("://")[2]
        return re.split(r"[/?#]", address)[0].rpartition("@")[2] or "the hub"

    def error(self, what: str, fix: str | None = None) -> AfbenchError:
        """An error about this repository."""
        return AfbenchError(what, where=self.where, fix=fix)


def headers() -> dict[str, str]:
    """What goes along with a request: the token of HF_TOKEN (or of `hf auth login`), if any."""
    return build_hf_headers(library_name="afbench", library_version=__version__)


@dataclass(slots=True)
class Patience:
    """Waits between attempts, for a bounded number of times, and gives up in one line.

    Attributes:
        repository: for the message.
        announce: told of a wait that the hub asks for.
        connected: whether the hub answered before: if not, a host that cannot be reached is a
            missing network, and is not waited for.
    """

    repository: Repository
    announce: Announce
    connected: bool = False
    _pauses: list[float] = field(default_factory=lambda: list(PAUSES))

    def renew(self) -> None:
        """There was progress: start counting again."""
        self._pauses = list(PAUSES)

    def wait(self, error: Exception, file: str | None = None) -> None:
        """Wait, so that the caller may try again.

        Raises:
            AfbenchError: the fault does not pass by waiting, or it was waited for enough.
        """
        asked = _asked_wait(error)
        if not self._passes(error) or not self._pauses or (asked or 0) > LONGEST_WAIT:
            # Without its cause: the request that it holds has the token in its headers.
            raise explain(error, self.repository, file) from None
        pause = self._pauses.pop(0)
        if asked is not None and asked > pause:
            self.announce(f"{self.repository.host} asks to wait {asked:.0f} s: {self.repository}")
            pause = asked
        sleep(pause)

    def _passes(self, error: Exception) -> bool:
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code in _BUSY
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
            return False  # the request itself is malformed
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return self.connected
        return isinstance(error, httpx.TransportError | TransferError)


def patiently(action: Callable[[], T], repository: Repository, announce: Announce) -> T:
    """Do a request, again and again if the hub is busy.

    Raises:
        AfbenchError: it failed for good.
    """
    patience = Patience(repository, announce)
    while True:
        try:
            return action()
        except FAULTS as error:
            patience.wait(error)


def transfer(
    url: str,
    part: Path,
    size: int,
    repository: Repository,
    file: str,
    announce: Announce,
    received: Received,
) -> None:
    """Fetch a file into `part`, going on where an earlier call stopped.

    Args:
        part: what came so far; it stays when the transfer fails or is interrupted.
        size: of the whole file, in bytes.
        file: the file's name, for messages.
        received: told of every piece.

    Raises:
        AfbenchError: it cannot be had, or it comes too short again and again.
    """
    patience = Patience(repository, announce, connected=True)
    farthest = _size(part)
    while _size(part) != size:
        try:
            _receive(url, part, size, received)
        except FAULTS as error:
            if _size(part) > farthest:
                farthest = _size(part)
                patience.renew()
            patience.wait(error, file)


def _receive(url: str, part: Path, size: int, received: Received) -> None:
    """One request for what is missing of a file."""
    have = _size(part)
    if have > size:
        _drop(part, received)
        have = 0
    asked = headers() | {"Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=asked, timeout=timeout) as response:
        if response.status_code == 416:  # no such range: the part is of no use
            _drop(part, received)
            raise TransferError
        hf_raise_for_status(response)
        if response.status_code != 206:
            _drop(part, received)
        with part.open("ab") as stream:
            for piece in response.iter_bytes():
                stream.write(piece)
                received(len(piece))
    if _size(part) != size:
        raise TransferError


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _drop(part: Path, received: Received) -> None:
    received(-_size(part))
    part.unlink(missing_ok=True)


def _asked_wait(error: Exception) -> float | None:
    """Seconds that the hub asks to wait: `Retry-After` (seconds or a date), or its rate limit."""
    if not isinstance(error, HfHubHTTPError):
        return None
    given = error.response.headers.get("retry-after", "").strip()
    if given.isdigit():
        return float(given)
    try:
        until = parsedate_to_datetime(given)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        pass
    # The hub's own header, as in `"resolvers";r=0;t=55`.
    reset = re.search(r";\s*t=(\d+)", error.response.headers.get("ratelimit", ""))
    return float(reset.group(1)) if reset and error.response.status_code == 429 else None


def explain(error: Exception, repository: Repository, file: str | None = None) -> AfbenchError:
    """What went wrong, in one line that says what to do.

    Args:
        file: the file that it went wrong with, if any.
    """
    what = f"{file} of {repository}" if file else str(repository)
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(error, repository, file)
    if isinstance(error, httpx.LocalProtocolError | UnicodeEncodeError):
        return repository.error(
            f"cannot ask for {what}: the token holds a character that no request may",
            "set HF_TOKEN to the token alone",
        )
    if isinstance(error, HFValidationError):
        return repository.error(
            f"'{repository.repo_id}' is no id of a hub", "write it as owner/name"
        )
    if isinstance(error, TransferError):
        return repository.error(
            f"{what} comes truncated or too long again and again",
            "run it again later: what was downloaded is kept",
        )
    if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol):
        return repository.error(
            f"cannot load {what}: {repository.host} {_silence(error)}",
            "check the network (what was downloaded is kept), or set HF_HUB_OFFLINE=1 to use the "
            "cache alone"
            if repository.revision
            else "check the network",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return repository.error(
            f"the disk is full: cannot keep {what}", "free some space, or set HF_HOME elsewhere"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return repository.error(
            f"cannot keep {what}: {error.strerror}", "set HF_HOME to a folder that can be written"
        )
    return repository.error(
        f"cannot load {what}: {repository.host} answers with something else than a hub does",
        "check HF_ENDPOINT, and whether the network asks to log in first",
    )


def _silence(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return "cannot be reached"
    if isinstance(error, httpx.TimeoutException):
        return "does not answer in time"
    return "breaks the connection off"


def _explain_answer(
    error: HfHubHTTPError, repository: Repository, file: str | None
) -> AfbenchError:
    status, repo_id = error.response.status_code, repository.repo_id
    licence = (
        f"accept its licence at {_page(repository)} and set HF_TOKEN to a token of that account"
    )
    if isinstance(error, GatedRepoError):
        return repository.error(f"{repo_id} is gated ({status})", licence)
    if isinstance(error, RevisionNotFoundError):
        return repository.error(
            f"{repo_id} has no revision {repository.revision} ({status})",
            "check it, or run 'afbench organisms pin' again",
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return repository.error(f"{repository} has no file {file or 'of that name'} ({status})")
    if status in (401, 403):
        return repository.error(
            f"{repository.host} refuses access to {repo_id} ({status}): it is gated or private, or "
            "there is no such repository",
            f"check the id; {licence}",
        )
    if status == 404:
        return repository.error(
            f"there is no repository {repo_id} at {repository.host} ({status})",
            "check the id in organism.yaml; a private one needs HF_TOKEN",
        )
    if status in _BUSY:
        why = "asks for fewer requests" if status == 429 else "has a fault"
        return repository.error(
            f"cannot load {repository}: {repository.host} {why} ({status}), and still does after "
            "waiting",
            "run it again later: what was downloaded is kept",
        )
    return repository.error(f"cannot load {repository}: {repository.host} answers {status}")


def _page(repository: Repository) -> str:
    scheme = repository.endpoint.partition("://")[0]
    return f"{scheme}://{repository.host}/{repository.repo_id}"
