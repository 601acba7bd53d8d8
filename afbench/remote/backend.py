"""A backend by its name, as the command line gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import HubSource
from afbench.errors import BackendError, UnknownNameError
from afbench.models.user_model import UserModel, as_organism
from afbench.remote.exchange import Exchange, Terms, spent_on
from afbench.remote.ledger import Approve
from afbench.remote.models import RemoteModels
from afbench.remote.prices import load_price, priced_models
from afbench.remote.provider import Provider
from afbench.store import Store

REMOTE: Final = ("anthropic", "openai")


@dataclass(frozen=True, slots=True)
class Backend:
    """A remote model that a run puts prompted organisms on.

    Attributes:
        exchange: asks it.
        user_model: it, as the organism that prompted ones have as their parent.
    """

    exchange: Exchange
    user_model: UserModel

    def models(self, catalog: Catalog) -> RemoteModels:
        """Its organisms, of a catalog that holds the user's model."""
        return RemoteModels(self.exchange, catalog)

    def spending(self) -> dict[str, Any]:
        """What the replies that this process used took, whenever they were paid.

        `usd_now` is what was paid in this process.
        """
        found = spent_on(list(self.exchange.used.values()))
        priced = self.exchange.price is not None
        return {**found, "usd_now": round(self.exchange.ledger.spent, 6) if priced else None}


def make_backend(
    name: str,
    model: str,
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
        model: as the provider calls it.
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
    price = load_price(model, prices)
    capped = terms is not None and terms.max_cost is not None
    if price is None and (name == "anthropic" or capped):
        raise BackendError(
            f"no price of '{model}' is known, so that its cost cannot be limited",
            where="--model",
            fix="give --prices FILE with its price; known: " + ", ".join(priced_models()),
        )
    exchange = Exchange(provider, store, price, approve, terms, say)
    return Backend(exchange, _user_model(provider))


def _provider(name: str, model: str, base_url: str | None) -> Provider:
    if name == "anthropic":
        from afbench.remote.claude import AnthropicProvider

        return AnthropicProvider(model, base_url=base_url)
    if name == "openai":
        from afbench.remote.chat_completions import OpenAIProvider

        return OpenAIProvider(model, base_url=base_url)
    raise UnknownNameError("backend", name, ("transformers", "vllm", *REMOTE))


def _user_model(provider: Provider) -> UserModel:
    """The model as an organism; its source names it, and nothing is ever fetched from a hub."""
    place = f"{provider.kind}:{provider.host}/{provider.model}"
    source = HubSource(type="hub", model=place)
    return UserModel(as_organism(source, Path()), f"{provider.kind}:{provider.model}", place)
