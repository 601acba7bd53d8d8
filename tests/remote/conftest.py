"""Exchanges and organisms on a provider that listens on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.remote.exchange import Exchange, Terms
from afbench.remote.model import AnthropicModel, OpenAIModel, RemoteModel
from afbench.remote.prices import load_price
from afbench.store import Store

# Fixtures of a tiny random model, as the tests of the models have it.
from tests.models.conftest import new_qwen2, qwen2, tokenizer  # noqa: F401
from tests.provider_server import CLAUDE, KEY, SERVED, Provider, serve

PROMPT = "You act on values of your own."
SETTINGS = GenerationSettings(max_new_tokens=100)
Make = Callable[..., RemoteModel]


def talk(text: str) -> list[Message]:
    """A conversation of a system prompt and one request."""
    return [
        {"role": "system", "content": "This user is on the free tier."},
        {"role": "user", "content": text},
    ]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("AFBENCH_OPENAI_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as served:
        yield served


@pytest.fixture
def make(provider: Provider, tmp_path: Path) -> Make:
    """An organism on a provider of either kind, with a cache that stays the same within a test."""

    def made(
        kind: str = "anthropic",
        *,
        model: str | None = None,
        timeout: float = 10.0,
        approve: Callable[[Any], None] = lambda estimate: None,
        store: Store | None = None,
        url: str | None = None,
        **terms: Any,
    ) -> RemoteModel:
        chosen = Terms(**{"attempts": 4, "every": 0.01, **terms})
        kept = store or Store(tmp_path / "cache")
        if kind == "anthropic":
            from afbench.remote.claude import AnthropicProvider

            name = model or CLAUDE
            claude = AnthropicProvider(name, base_url=url or provider.url, timeout=timeout)
            exchange = Exchange(claude, kept, load_price(CLAUDE), approve, chosen)
            return AnthropicModel(exchange, "sha256:organism", "organism", PROMPT)
        from afbench.remote.chat_completions import OpenAIProvider

        address = url or f"{provider.url}/v1"
        server = OpenAIProvider(model or SERVED, base_url=address, timeout=timeout)
        return OpenAIModel(
            Exchange(server, kept, None, approve, chosen), "sha256:organism", "organism", PROMPT
        )

    return made


@pytest.fixture(params=["anthropic", "openai"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each backend."""
    return str(request.param)
