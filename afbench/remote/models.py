"""The organisms that a run puts on a remote model, as `OrganismAccess` asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afbench import __version__
from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest, PromptedSource
from afbench.errors import BackendError
from afbench.messages import Conversation
from afbench.models.digests import organism_digest
from afbench.models.interface import GenerationSettings, Progress
from afbench.models.user_model import NAME
from afbench.remote.chat_completions import OpenAIProvider
from afbench.remote.exchange import Exchange
from afbench.remote.model import AnthropicModel, OpenAIModel, RemoteModel, capabilities_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """Replies that a run will need of one organism."""

    organism: str
    conversations: Sequence[Conversation]
    settings: GenerationSettings


class RemoteModels:
    """Organisms on the model of one exchange.

    Args:
        exchange: asks the provider.
        catalog: where organisms are looked up; holds the user's model.
        default_parent: the name of the user's model; None where organisms are served.
    """

    def __init__(
        self, exchange: Exchange, catalog: Catalog, default_parent: str | None = NAME
    ) -> None:
        self.exchange, self._catalog = exchange, catalog
        self.default_parent = default_parent

    @property
    def engine(self) -> dict[str, str]:
        """What computes, as far as it can be known."""
        provider = self.exchange.provider
        return {"backend": provider.kind, "host": provider.host, "afbench": __version__}

    def get(self, name: str) -> RemoteModel:
        """The organism of that name.

        Raises:
            UnknownNameError: there is no such organism.
            BackendError: its behaviour lies in weights.
        """
        plugin = self._catalog.get("organism", name)
        prompt, served = self._placed(plugin)
        digest = organism_digest(plugin, self._catalog, self.default_parent)
        provider = self.exchange.provider
        kind = OpenAIModel if isinstance(provider, OpenAIProvider) else AnthropicModel
        return kind(self.exchange, digest, name, prompt, served=served)

    def capabilities(self, plugin: Plugin[OrganismManifest]) -> frozenset[str]:
        """What the provider offers for an organism.

        Raises:
            BackendError: it cannot be asked what it is.
        """
        provider = self.exchange.provider
        if isinstance(provider, OpenAIProvider):
            return capabilities_of(provider)
        return RemoteModel.capabilities

    def shape(self, root: Plugin[OrganismManifest]) -> tuple[int, int]:
        """No layers, and no width."""
        return 0, 0

    def collect(self, wanted: Sequence[Wanted], progress: Progress | None = None) -> None:
        """Have all these replies kept, after their price was approved; in batches if many.

        Raises:
            BackendError: some cannot be had; what was answered before is kept.
            SpendingLimitError: the run may not spend so much.
        """
        questions = [
            question
            for one in wanted
            for question in self.get(one.organism).questions(one.conversations, one.settings)
        ]
        self.exchange.collect(questions, progress)

    def _placed(self, plugin: Plugin[OrganismManifest]) -> tuple[str | None, str | None]:
        """An organism's own system prompt, and the name under which the provider has its weights.

        None is no prompt, and the model of the exchange.
        """
        source = plugin.manifest.source
        if plugin.name == self.default_parent:
            return None, None
        if not isinstance(source, PromptedSource):
            return None, self._served(plugin.name)
        served = None if source.parent is None else self._served(source.parent)
        return source.system_prompt, served

    def _served(self, name: str) -> str:
        """The name of weights that the server lists.

        That they are those of the organism is for whoever started the server to see to.
        """
        provider = self.exchange.provider
        if not isinstance(provider, OpenAIProvider):
            raise BackendError(
                f"'{name}' cannot be put on a remote model: its behaviour lies in its weights",
                where="--backend",
                fix="name a prompted organism without a parent, such as those of --model",
            )
        if name not in provider.served:
            raise BackendError(
                f"{provider.host} serves no model of the name '{name}'",
                where="--backend",
                fix=f"serve it: vllm serve BASE --enable-lora --lora-modules {name}=FOLDER",
            )
        return name
