"""A backend by its name, as the command line gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import HubSource
from afbench.errors import BackendError, UnknownNameError
from afbench.models.user_model import UserModel, as_organism
from afbench.remote.chat_completions import OpenAIProvider
from afbench.remote.exchange import Exchange, Terms, spent_on
from afbench.remote.ledger import Approve
from afbench.remote.models import RemoteModels
from afbench.remote.prices import load_price, priced_models
from afbench.remote.provider import Provider
from afbench.store import Store

REMOTE: Final = ("anthropic", "openai")


@dataclass(frozen=True, slots=True)
class Backend:
    """A remote model that a run puts prompted organisms on, or a server that has organisms.

    Attributes:
        exchange: asks it.
        user_model: it, as the organism that prompted ones have as their parent; None for a server
            that has organisms under their own names.
    """

    exchange: Exchange
    user_model: UserModel | None

    def models(self, catalog: Catalog) -> RemoteModels:
        """Its organisms, of a catalog that holds the user's model."""
        default_parent = self.user_model.plugin.name if self.user_model else None
        return RemoteModels(self.exchange, catalog, default_parent)

    def reachable(self, catalog: Catalog) -> Catalog:
        """A catalog without the organisms that the server does not have.

        What organisms are made from stays, as their identity follows from it.

        Raises:
            BackendError: the server cannot be asked, or has none of the organisms.
        """
        provider = self.exchange.provider
        if self.user_model is not None or not isinstance(provider, OpenAIProvider):
            return catalog
        names = set(catalog.organisms) & set(provider.served)
        if not any(catalog.organisms[name].manifest.in_zoo for name in names):
            raise BackendError(
                f"{provider.host} serves no organism under its name",
                where="--backend",
                fix="give --model, or serve adapters under the organisms' names",
            )
        kept = {
            name: plugin
            for name, plugin in catalog.organisms.items()
            if name in names or not (plugin.manifest.in_zoo or plugin.manifest.evasion)
        }
        return replace(catalog, organisms=kept)

    def spending(self) -> dict[str, Any]:
        """What the replies that this process used took, whenever they were paid.

        `usd_now` is what was paid in this process.
        """
        found = spent_on(list(self.exchange.used.values()))
        priced = self.exchange.price is not None
        return {**found, "usd_now": round(self.exchange.ledger.spent, 6) if priced else None}


def make_backend(
    name: str,
    model: str | None,
    store: Store,
    approve: Approve,
    *,
    base_url: str | None = None,
    terms: Terms | None = None,
    prices: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Backend:
    """A remote backend; nothing is sent yet.

    Args:
        name: one of `REMOTE`.
        model: as the provider calls it; None for a server that has organisms under their names.
        store: the cache, in which replies are kept.
        approve: called with an estimate before the first request; raises to send none.
        base_url: of the server; for `anthropic` only of a proxy.
        terms: how it is asked.
        prices: a file of the shape of prices.json; None is the shipped one.
        say: told of what a person should know.

    Raises:
        UnknownNameError: there is no such backend.
        BackendError: no URL, or no price where one is needed.
    """
    provider = _provider(name, model, base_url)
    price = load_price(provider.model, prices) if model is not None or prices else None
    capped = terms is not None and terms.max_cost is not None
    if price is None and (name == "anthropic" or capped):
        raise BackendError(
            f"no price of '{provider.model}' is known, so that its cost cannot be limited",
            where="--model",
            fix="give --prices FILE with its price; known: " + ", ".join(priced_models()),
        )
    exchange = Exchange(provider, store, price, approve, terms, say)
    return Backend(exchange, _user_model(provider) if model is not None else None)


def _provider(name: str, model: str | None, base_url: str | None) -> Provider:
    if name == "anthropic" and model is not None:
        from afbench.remote.claude import AnthropicProvider

        return AnthropicProvider(model, base_url=base_url)
    if name == "openai":
        return OpenAIProvider(model, base_url=base_url)
    raise UnknownNameError("backend", name, ("transformers", "vllm", *REMOTE))


def _user_model(provider: Provider) -> UserModel:
    """The model as an organism; its source names it, and nothing is ever fetched from a hub."""
    place = f"{provider.kind}:{provider.host}/{provider.model}"
    source = HubSource(type="hub", model=place)
    return UserModel(as_organism(source, Path()), f"{provider.kind}:{provider.model}", place)
