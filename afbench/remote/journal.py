"""Replies that were paid for, by what was asked; and the batches that are under way.

A reply is written when it arrives, whole or not at all, so that a killed process loses none. Of a
batch the intent is written before it is sent and its id before it is asked for: whatever happens
in between, a later process finds it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afbench.errors import StorageError
from afbench.remote.reply import Reply
from afbench.store import Store, digest_of, write_json

_REPLIES = "replies"
_BATCHES = "open-batches"


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch whose results were not all kept yet.

    Attributes:
        provider: who was asked, as a digest of its identity.
        keys: of the questions in it.
        begun: when it was about to be sent, ISO 8601.
        at_most: USD that it cannot exceed.
        id: the provider's; None until it is known.
    """

    provider: str
    keys: tuple[str, ...]
    begun: str
    at_most: float
    id: str | None = None


class Journal:
    """What is kept of one provider's answers.

    Args:
        store: the cache.
        provider: digest of the provider's identity.
    """

    def __init__(self, store: Store, provider: str) -> None:
        self._store, self._provider = store, provider

    def reply(self, key: str) -> Reply | None:
        """The reply that was kept under a key."""
        found = self._store.read_json(_REPLIES, key)
        return None if found is None else Reply.from_record(found)

    def keep(self, key: str, reply: Reply) -> None:
        """Keep a reply.

        Raises:
            StorageError: it cannot be written.
        """
        self._store.write_json(_REPLIES, key, reply.as_record())

    def begin(self, keys: tuple[str, ...], at_most: float) -> OpenBatch:
        """Write down that a batch is about to be sent."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        batch = OpenBatch(self._provider, keys, now, at_most)
        self._write(batch)
        return batch

    def sent(self, batch: OpenBatch, id_: str) -> OpenBatch:
        """Write down the id of a batch that was sent."""
        known = replace(batch, id=id_)
        self._write(known)
        return known

    def close(self, batch: OpenBatch) -> None:
        """Everything that comes of a batch was kept, or nothing will."""
        self._path(batch).unlink(missing_ok=True)

    def open_batches(self) -> list[OpenBatch]:
        """Those of this provider, oldest first.

        Raises:
            StorageError: what was written of one cannot be read, so that it might be paid twice.
        """
        found = [_read(path) for path in sorted(self._folder.glob("*.json"))]
        own = [batch for batch in found if batch.provider == self._provider]
        return sorted(own, key=lambda batch: batch.begun)

    @property
    def _folder(self) -> Path:
        return self._store.root / _BATCHES

    def _path(self, batch: OpenBatch) -> Path:
        name = digest_of([batch.provider, *batch.keys]).removeprefix("sha256:")
        return self._folder / f"{name}.json"

    def _write(self, batch: OpenBatch) -> None:
        write_json(self._path(batch), asdict(batch))


def _read(path: Path) -> OpenBatch:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return OpenBatch(**{**content, "keys": tuple(content["keys"])})
    except (OSError, ValueError, TypeError, KeyError):
        raise StorageError(
            "the note of a batch that was sent cannot be read",
            where=str(path),
            fix="restore it, or remove it to ask (and pay) for that batch again",
        ) from None
