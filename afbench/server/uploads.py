"""Receives a bundle: streamed to a file, measured and digested on the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from anyio import CapacityLimiter
from starlette.requests import ClientDisconnect, Request

from afbench.errors import StorageError
from afbench.server.problems import ProblemError
from afbench.server.settings import Settings
from afbench.submission.client import DIGEST_HEADER

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_FIX: Final = "send it again"
_NAME: Final = "bundle.tar.gz"  # as it is called in what its sender is told


def announced(request: Request, settings: Settings) -> str:
    """The digest that a bundle is announced with.

    Raises:
        ProblemError: there is none (400), or more bytes are announced than are taken (413).
    """
    digest = request.headers.get(DIGEST_HEADER, "")
    if not _DIGEST.fullmatch(digest):
        raise ProblemError(
            400, "no digest of the bundle", where=DIGEST_HEADER, fix="send it by 'afbench submit'"
        )
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > settings.max_upload:
        raise _too_large(settings)
    return digest


@asynccontextmanager
async def received(request: Request, digest: str, settings: Settings) -> AsyncIterator[Path]:
    """A bundle in a file of its own, on the disk and as announced; gone afterwards.

    Raises:
        ProblemError: it is cut off or another one (400), too slow (408), or too large (413).
        StorageError: it could not be written.
    """
    folder = settings.incoming / secrets.token_hex(8)
    path = folder / _NAME
    try:
        folder.mkdir(parents=True)
        with path.open("xb") as file:
            found = await _written(request, file, settings)
            if found != digest:
                raise ProblemError(
                    400, "cut off or altered on its way: it has another digest",
                    where=DIGEST_HEADER, fix=_FIX,
                )  # fmt: skip
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        yield path
    except OSError as error:
        raise StorageError(
            f"cannot write: {error.strerror or error}", where=str(settings.incoming)
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Slots:
    """Room for some uploads at a time: what is arriving lies on the disk.

    Args:
        settings: how many, and how many of one account; further ones of it are refused, so that
            nobody can take all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._all = CapacityLimiter(settings.uploads)
        self._each, self._used = settings.own_uploads, Counter[int]()

    @asynccontextmanager
    async def of(self, account: int) -> AsyncIterator[None]:
        """A place for an upload of an account, as soon as there is one.

        Raises:
            ProblemError: the account has as many as it may (429).
        """
        if self._used[account] >= self._each:
            raise ProblemError(
                429, "too many uploads of this account at once", where="token",
                fix="send one after the other", headers={"Retry-After": "5"},
            )  # fmt: skip
        self._used[account] += 1
        try:
            async with self._all:
                yield
        finally:
            self._used[account] -= 1


def sweep(settings: Settings) -> None:
    """Remove what uploads left behind that a killed server had begun."""
    oldest = time.time() - 2 * settings.upload
    for folder in settings.incoming.glob("*"):
        try:
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another server was quicker
            continue


async def _written(request: Request, file: BinaryIO, settings: Settings) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        async with asyncio.timeout(settings.upload):
            stream = request.stream()
            while True:
                async with asyncio.timeout(settings.idle):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return f"sha256:{digest.hexdigest()}"
                size += len(chunk)
                if size > settings.max_upload:
                    raise _too_large(settings)
                digest.update(chunk)
                file.write(chunk)
    except ClientDisconnect:
        raise ProblemError(400, "cut off on its way", where="the bundle", fix=_FIX) from None
    except TimeoutError:
        raise ProblemError(
            408, "the bundle comes too slowly", where="the bundle", fix=_FIX,
            headers={"Connection": "close"},
        ) from None  # fmt: skip


def _too_large(settings: Settings) -> ProblemError:
    return ProblemError(
        413, f"larger than {settings.max_upload:,} bytes", where="the bundle",
        fix="leave out what the detector does not need",
    )  # fmt: skip
