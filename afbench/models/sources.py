"""Where a run's models come from, whichever backend runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from afbench.messages import Conversation
from afbench.models.interface import Generation, GenerationSettings, Model

if TYPE_CHECKING:
    from afbench.catalog.discovery import Plugin
    from afbench.catalog.manifests import OrganismManifest


class BatchedModel(Model, Protocol):
    """A model whose replies come in batches that the arguments alone decide."""

    def plan_batches(
        self, conversations: Sequence[Conversation], settings: GenerationSettings
    ) -> list[list[int]]:
        """The batches that `generate` runs: indices into `conversations`."""
        ...

    def generate_batch(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        batch_index: int,
    ) -> list[Generation]:
        """Replies of one batch of the plan, in the order of `plan_batches(...)[batch_index]`."""
        ...


class ModelSource(Protocol):
    """Gives the organisms of a catalog on one backend."""

    @property
    def default_parent(self) -> str | None:
        """The organism that prompted organisms without a parent are put on."""
        ...

    @property
    def engine(self) -> dict[str, str]:
        """What computes, with versions: part of the identity of all that it computes."""
        ...

    def get(self, name: str) -> BatchedModel:
        """The organism of that name, with a meter of its own.

        Raises:
            UnknownNameError: there is no such organism.
            AfbenchError: this backend cannot run it.
        """
        ...

    def capabilities(self, plugin: Plugin[OrganismManifest]) -> frozenset[str]:
        """What the backend offers for an organism, from its manifest."""
        ...

    def shape(self, root: Plugin[OrganismManifest]) -> tuple[int, int]:
        """Number of layers and width of a base; zeros where nobody can look inside."""
        ...
