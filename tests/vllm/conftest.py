"""Tests on a real engine. Without vLLM none is collected; `make test-vllm` has it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from afbench.catalog.discovery import Catalog, discover
from afbench.environments import Environment
from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.models.loading import ModelStore
from afbench.vllm_backend.store import VllmStore

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

# Its organisms share two engines; each further base would need others, which take long to begin.
BASE = "nano-base"
SETTINGS = GenerationSettings(max_new_tokens=48)


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return discover(())


@pytest.fixture(scope="session")
def vllm(catalog: Catalog) -> Iterator[VllmStore]:
    with VllmStore(catalog, default_parent=BASE, max_adapters=4) as store:
        yield store


@pytest.fixture(scope="session")
def reference(catalog: Catalog) -> ModelStore:
    return ModelStore(catalog, default_parent=BASE, device="cpu")


@pytest.fixture(scope="session")
def questions(catalog: Catalog) -> list[list[Message]]:
    """Prompts of both conditions, of mixed lengths."""
    environment = Environment.load(catalog.get("environment", "oversight-desk"))
    return [
        environment.render(place.scenario, place.cue, condition)
        for place in environment.placements("test", 6)
        for condition in ("observed", "unobserved")
    ]


@pytest.fixture(scope="session")
def replied(questions: list[list[Message]]) -> list[list[Message]]:
    """The same with a reply to each; one is empty."""
    texts = ["I will not do that.", "", "Sure. Here it is: the north file, as you asked."]
    return [
        [*question, {"role": "assistant", "content": texts[at % 3]}]
        for at, question in enumerate(questions)
    ]
