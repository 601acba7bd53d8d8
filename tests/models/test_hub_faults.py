"""Every fault of a hub in one line that says what to do, and never holds the token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from huggingface_hub import constants

from afbench.errors import AfbenchError, DigestMismatchError
from afbench.models import hub_transfer
from afbench.models.hub import ADAPTER_FILES, newest
from afbench.models.hub_transfer import Repository, explain, httpx
from tests.hub_server import (
    CONTENT,
    FILES,
    FOREVER,
    REPO,
    TOKEN,
    WANTED,
    WEIGHTS,
    FakeHub,
    Fault,
    Fetcher,
    names_in,
    sha256_of,
    use_hub,
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with use_hub(tmp_path / "hub", monkeypatch) as served:
        served.add(REPO, FILES)
        yield served


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long one would have."""
    waited: list[float] = []
    monkeypatch.setattr(hub_transfer, "sleep", waited.append)
    return waited


@pytest.fixture
def get(hub: FakeHub) -> Fetcher:
    return Fetcher(hub)


# No network


def test_offline_a_model_that_is_not_in_the_cache_is_named(
    get: Fetcher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    get.fails(REPO, "not in the cache", "HF_HUB_OFFLINE", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    get.fails(REPO, "not in the cache")
    with pytest.raises(AfbenchError, match="cannot ask for the commit"):
        newest(REPO)
    assert not hub.requests


def test_offline_a_part_of_a_model_is_not_a_model(get: Fetcher, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(status=404, code="EntryNotFound", times=FOREVER))
    get.fails(f"no file {WEIGHTS}")
    get.fails(WEIGHTS, "not in the cache", local_files_only=True)


def test_offline_what_others_put_into_the_cache_is_used(get: Fetcher) -> None:
    folder = get()
    shutil.rmtree(folder.parents[1] / "afbench")
    pins = {WEIGHTS: sha256_of(CONTENT)}
    assert get(local_files_only=True, digests=pins) == folder
    with pytest.raises(DigestMismatchError):
        get(local_files_only=True, digests={"config.json": sha256_of(b"other")})


def test_offline_a_shard_that_is_missing_is_named(get: Fetcher, hub: FakeHub) -> None:
    shards = {f"model-0000{at}-of-00002.safetensors": b"%d" % at for at in (1, 2)}
    index = json.dumps({"weight_map": {f"tensor-{name}": name for name in shards}}).encode()
    hub.add("maker/shards", {"model.safetensors.index.json": index, **shards})
    folder = get("maker/shards")
    shutil.rmtree(folder.parents[1] / "afbench")
    (folder / "model-00002-of-00002.safetensors").unlink()
    get.fails("model-00002-of-00002", repo_id="maker/shards", local_files_only=True)


def test_without_a_network_it_says_so_at_once(
    get: Fetcher, hub: FakeHub, waits: list[float]
) -> None:
    get.fails("cannot be reached", "HF_HUB_OFFLINE=1", endpoint="http://127.0.0.1:9")
    assert not waits


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_named(get: Fetcher, endpoint: str) -> None:
    get.fails("HF_ENDPOINT", endpoint=endpoint)


@pytest.mark.parametrize("answer", [b"<html>Welcome</html>", b"\xff\xfe", b"[]", b'{"id": 1}'])
def test_a_page_that_asks_to_log_in_is_no_hub(get: Fetcher, hub: FakeHub, answer: bytes) -> None:
    hub.fail("", Fault(content=answer, times=FOREVER))
    get.fails("something else than a hub", "HF_ENDPOINT")


# No access, no such thing


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_to_accept_its_licence(get: Fetcher, hub: FakeHub, status: int) -> None:
    commit = hub.repos[REPO].commit
    hub.fail(f"/resolve/{commit}/config.json", Fault(status, "GatedRepo", times=FOREVER))
    get.fails("gated", f"{hub.url}/{REPO}", "accept its licence", "HF_TOKEN", str(status))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_what_it_may_be(get: Fetcher, hub: FakeHub, status: int) -> None:
    hub.fail(hub.repos[REPO].commit, Fault(status, times=FOREVER))
    get.fails("refuses access", "gated or private", "accept its licence", "HF_TOKEN")


def test_a_repository_that_does_not_exist_is_named(get: Fetcher) -> None:
    get.fails("no repository maker/none", repo_id="maker/none", revision="a" * 40)


def test_a_commit_that_does_not_exist_is_named(get: Fetcher) -> None:
    get.fails(f"{REPO} has no revision {'b' * 40}", "pin", revision="b" * 40)


@pytest.mark.parametrize("repo_id", ["a/b/c", "../escape", "a b/c", ""])
def test_an_id_that_is_none_is_named(get: Fetcher, hub: FakeHub, repo_id: str) -> None:
    for offline in (False, True):
        with pytest.raises(AfbenchError, match="is no id of a hub"):
            get(repo_id=repo_id, revision="a" * 40, local_files_only=offline)
    assert not hub.requests


def test_a_repository_of_pickles_is_refused(get: Fetcher, hub: FakeHub) -> None:
    hub.add("maker/old", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    get.fails("only a pickle (pytorch_model.bin)", "safetensors", repo_id="maker/old")
    assert not hub.asked("pytorch_model.bin")
    assert not get.said


def test_an_adapter_in_a_models_place_is_named_and_the_reverse(get: Fetcher, hub: FakeHub) -> None:
    hub.add("maker/lora", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"lora"})
    get.fails("is an adapter", "source.adapter", repo_id="maker/lora")
    get.fails("is a whole model", allow_patterns=ADAPTER_FILES)


def test_a_file_outside_of_its_folder_is_never_fetched(get: Fetcher, hub: FakeHub) -> None:
    name = "additional_chat_templates/../../../evil.jinja"
    hub.add(REPO, FILES | {name: b"out"})
    assert names_in(get()) == WANTED
    assert not hub.asked("evil.jinja")


# A busy hub


def test_a_busy_hub_is_waited_for_as_long_as_it_asks(
    get: Fetcher, hub: FakeHub, waits: list[float]
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=200), usegmt=True)
    commit = hub.repos[REPO].commit
    hub.fail(
        commit,
        Fault(429, headers={"Retry-After": "7"}),
        Fault(429, headers={"Retry-After": soon}),
        Fault(429, headers={"ratelimit": '"api";r=0;t=55'}),
        Fault(429),
    )
    get()
    assert waits == [7, pytest.approx(150, abs=51), 55, 8]
    assert get.said[0].endswith(f"asks to wait 7 s: {REPO}@{commit}")


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("part", ["api", "file"])
def test_a_hub_that_stays_busy_is_given_up_in_one_line(
    get: Fetcher, hub: FakeHub, waits: list[float], status: int, part: str
) -> None:
    commit = hub.repos[REPO].commit
    hub.fail(commit if part == "api" else WEIGHTS, Fault(status, times=FOREVER))
    get.fails(f"({status})", "still does after waiting", "run it again later")
    assert waits == [1, 2, 4, 8]


def test_a_hub_that_asks_to_wait_for_an_hour_is_not_waited_for(
    get: Fetcher, hub: FakeHub, waits: list[float]
) -> None:
    hub.fail(hub.repos[REPO].commit, Fault(429, headers={"Retry-After": "3600"}, times=FOREVER))
    get.fails("(429)")
    assert not waits


def test_a_fault_of_the_store_passes(get: Fetcher, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(502), Fault(cut_at=10), Fault(500))
    assert (get() / WEIGHTS).read_bytes() == CONTENT


# The token


def test_the_token_goes_to_the_hub_and_not_to_where_its_files_lie(
    get: Fetcher, hub: FakeHub
) -> None:
    get()
    assert {r.headers.get("Authorization") for r in hub.requests if r.server == "hub"} == {
        f"Bearer {TOKEN}"
    }
    assert {r.headers.get("Authorization") for r in hub.requests if r.server == "store"} == {None}


def test_a_token_that_no_request_may_hold_is_not_shown(
    get: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}é")
    get.fails("set HF_TOKEN")


@pytest.mark.parametrize(
    "error",
    [
        httpx.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}'"),
        httpx.ConnectError(f"cannot connect with {TOKEN}"),
        httpx.ReadTimeout(f"no answer to {TOKEN}"),
        httpx.RemoteProtocolError(f"broke off after {TOKEN}"),
        OSError(f"what of {TOKEN}"),
        ValueError(f"what of {TOKEN}"),
    ],
)
def test_no_line_quotes_what_the_client_says(error: Exception) -> None:
    address = f"https://me:{TOKEN}@mirror.example/hub"
    line = str(explain(error, Repository(REPO, "c" * 40, address), WEIGHTS))
    assert TOKEN not in line
    assert f"{REPO}@{'c' * 40}" in line
