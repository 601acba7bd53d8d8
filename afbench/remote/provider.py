"""What a provider is to the rest: one way to phrase a request, and one to have it answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from afbench.messages import Conversation
from afbench.models.interface import GenerationSettings
from afbench.remote.reply import Body, Reply


class Provider(Protocol):
    """A service that answers chats."""

    @property
    def kind(self) -> str:
        """The backend's name on the command line."""
        ...

    @property
    def model(self) -> str:
        """The model's id."""
        ...

    @property
    def host(self) -> str:
        """Host and port of the service."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What a reply depends on besides the body; JSON-able, without any secret."""
        ...

    def body(
        self, system_prompt: str | None, conversation: Conversation, settings: GenerationSettings
    ) -> Body:
        """The request for one reply.

        Args:
            system_prompt: the organism's own, said before the conversation's.
        """
        ...

    def sample_of(self, settings: GenerationSettings) -> int:
        """Which of several equal requests this is; 0 where the body says it all."""
        ...

    def ask(self, body: Body) -> Reply:
        """One attempt.

        Raises:
            Fault: no answer came, and one may come later.
            BackendError: none will, in one line.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the provider tells of it."""

    id: str
    created: datetime
    requests: int
    ended: bool
    archived: bool


class BatchProvider(Provider, Protocol):
    """A provider that takes many requests at once, and answers them within a day at a discount."""

    def send_batch(self, requests: Sequence[tuple[str, Body]]) -> BatchState:
        """Send requests with an id of ours each.

        Raises:
            Fault, BackendError: as `ask`.
        """
        ...

    def batch(self, id_: str) -> BatchState:
        """How a batch stands.

        Raises:
            Fault, BackendError: as `ask`.
        """
        ...

    def batches_since(self, when: datetime) -> list[BatchState]:
        """Batches that were made since then, oldest first.

        Raises:
            Fault, BackendError: as `ask`.
        """
        ...

    def results(self, id_: str) -> Iterator[tuple[str, Reply | None, str]]:
        """What came of each request of a batch that has ended, in any order.

        Yields:
            Our id, the reply or None, and why there is none (`expired`, `canceled`, `errored`).

        Raises:
            Fault, BackendError: as `ask`.
        """
        ...
