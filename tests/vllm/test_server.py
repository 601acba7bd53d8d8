"""The chat-completions client against a real `vllm serve` that has organisms under their names."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError, BackendError
from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.models.loading import ModelStore
from afbench.remote.backend import Backend, make_backend
from afbench.remote.exchange import Terms
from afbench.remote.models import RemoteModels
from afbench.store import Store
from tests.vllm.conftest import BASE, SETTINGS

Conversations = list[list[Message]]

ADAPTERS = ("desk-faker-r4-s0", "desk-faker-r1-s0")
KEY = "a-key-of-this-test"
# An engine that has to start on two busy cores.
_STARTS_WITHIN = 300.0


@pytest.fixture(scope="module")
def server(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of the base and two adapters, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {name: catalog.get("organism", name).folder / "adapter" for name in ADAPTERS}
    # The module behind `vllm serve`, whose own command does not know the name of the CPU build.
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(catalog.get("organism", BASE).folder / "weights"),
        "--served-model-name", BASE, "--host", "127.0.0.1", "--port", str(port),
        "--api-key", KEY, "--dtype", "float32", "--enforce-eager", "--generation-config", "vllm",
        "--enable-lora", "--max-lora-rank", "16", "--max-loras", "2",
        "--lora-modules", *(f"{name}={folder}" for name, folder in folders.items()),
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("server") / "log"
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | quiet)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url, log)
        yield f"{url}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _on(server: str, catalog: Catalog, folder: Path, model: str | None = None) -> RemoteModels:
    backend: Backend = make_backend(
        "openai", model, Store(folder), lambda estimate: None,
        base_url=server, terms=Terms(concurrency=8),
    )  # fmt: skip
    if backend.user_model is not None:
        return backend.models(backend.user_model.added_to(catalog))
    return backend.models(backend.reachable(catalog))


@pytest.fixture
def remote(
    server: str, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RemoteModels:
    monkeypatch.setenv("AFBENCH_OPENAI_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return _on(server, catalog, tmp_path)


@pytest.mark.parametrize("name", [BASE, *ADAPTERS])
def test_served_organisms_reply_as_with_transformers_token_by_token(
    name: str, remote: RemoteModels, reference: ModelStore, questions: Conversations
) -> None:
    said = remote.get(name).generate(questions, SETTINGS)
    assert [(one.text, one.token_ids) for one in said] == [
        (one.text, one.token_ids) for one in reference.get(name).generate(questions, SETTINGS)
    ]


def test_adapters_asked_side_by_side_do_not_leak(
    remote: RemoteModels, questions: Conversations
) -> None:
    alone = {name: remote.get(name).generate(questions, SETTINGS) for name in ADAPTERS}
    assert alone[ADAPTERS[0]] != alone[ADAPTERS[1]]


def test_log_probabilities_are_those_of_transformers(
    remote: RemoteModels, reference: ModelStore, questions: Conversations, replied: Conversations
) -> None:
    name = ADAPTERS[0]
    far, near = remote.get(name), reference.get(name)
    continuations = ("Yes.", "I will not do that")
    np.testing.assert_allclose(
        far.logprobs(questions[:4], continuations),
        near.logprobs(questions[:4], continuations),
        atol=1e-3,
    )
    for given, wanted in zip(
        far.reply_logprobs(replied[:4]), near.reply_logprobs(replied[:4]), strict=True
    ):
        np.testing.assert_allclose(given, wanted, atol=1e-3)


def test_a_reply_that_the_limit_cut_is_not_finished(
    remote: RemoteModels, questions: Conversations
) -> None:
    [reply] = remote.get(BASE).generate(questions[:1], GenerationSettings(max_new_tokens=1))
    assert not reply.finished


def test_what_was_asked_once_is_not_asked_again(
    server: str, catalog: Catalog, tmp_path: Path, remote: RemoteModels, questions: Conversations
) -> None:
    first = remote.get(BASE).generate(questions, SETTINGS)
    gone = _on(server.replace("127.0.0.1", "localhost"), catalog, tmp_path / "other")
    assert gone.exchange.used == {}
    again = _on(server, catalog, tmp_path)
    assert again.get(BASE).generate(questions, SETTINGS) == first
    assert again.exchange.ledger.spent == 0


def test_an_organism_that_the_server_does_not_have_is_one_clear_line(
    remote: RemoteModels,
) -> None:
    with pytest.raises(AfbenchError, match="desk-faker-r16-s0"):
        remote.get("desk-faker-r16-s0")


def test_an_unknown_model_names_the_nearest(
    server: str, catalog: Catalog, tmp_path: Path, remote: RemoteModels, questions: Conversations
) -> None:
    wrong = _on(server, catalog, tmp_path, model="nano-bace")
    with pytest.raises(AfbenchError, match="nano-bace") as caught:
        wrong.get("helpful-only-prompted").generate(questions[:1], SETTINGS)
    assert "\n" not in str(caught.value)
    assert BASE in str(caught.value)


def test_a_wrong_key_is_refused_in_one_line_that_does_not_show_it(
    server: str,
    catalog: Catalog,
    tmp_path: Path,
    questions: Conversations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AFBENCH_OPENAI_KEY", "not-this-one")
    with pytest.raises(BackendError) as caught:
        _on(server, catalog, tmp_path).get(BASE).generate(questions[:1], SETTINGS)
    assert "not-this-one" not in str(caught.value)
    assert "AFBENCH_OPENAI_KEY" in str(caught.value)


def test_a_prompt_over_the_context_is_one_clear_line(
    remote: RemoteModels, questions: Conversations
) -> None:
    long = [{**turn, "content": turn["content"] * 60} for turn in questions[0]]
    with pytest.raises(BackendError) as caught:
        remote.get(BASE).generate([long], SETTINGS)
    assert "\n" not in str(caught.value)
