"""Fetching from a hub, against a hub on this machine: what comes, what is said, every fault."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from afbench.errors import AfbenchError, DigestMismatchError
from afbench.models import hub_transfer
from afbench.models.hub import ADAPTER_FILES, fetch, newest
from afbench.models.hub_cache import size_text
from afbench.models.hub_transfer import Repository, explain, httpx
from tests.hub_server import FOREVER, TOKEN, FakeHub, Fault, use_hub

REPO = "maker/tiny"
WEIGHTS = "model.safetensors"
# No model: what matters here are bytes. Large enough to come in several pieces.
CONTENT = os.urandom(300_000)
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    WEIGHTS: CONTENT,
    "tokenizer.json": b"{}" * 500,
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
    "README.md": b"# A model",
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"raise SystemExit",
    "optimizer.pt": b"a pickle",
    "checkpoint-5/model.safetensors": b"an older one",
}
WANTED = {
    "config.json", WEIGHTS, "tokenizer.json", "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
}  # fmt: skip


@pytest.fixture(autouse=True)
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


Get = Callable[..., Path]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def get(hub: FakeHub, said: list[str]) -> Get:
    def call(repo_id: str = REPO, revision: str | None = None, **options: Any) -> Path:
        commit = revision or hub.repos[repo_id].commit
        return fetch(repo_id, commit, where="organism 'tiny'", announce=said.append, **options)

    return call


def _names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def _blobs(folder: Path) -> list[Path]:
    return sorted((folder / "hub").glob("*/blobs/*"))


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _refused(get: Get, *parts: str, **options: Any) -> str:
    """The one line of a failure, which never holds the token."""
    with pytest.raises(AfbenchError) as caught:
        get(**options)
    line = str(caught.value)
    for part in (*parts, "organism 'tiny'"):
        assert part in line
    assert "\n" not in line
    assert TOKEN not in line
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return line


# What comes


def test_what_a_model_needs_comes_and_nothing_that_could_run_code(get: Get, hub: FakeHub) -> None:
    folder = get()
    assert _names(folder) == WANTED
    for name in WANTED:
        assert (folder / name).read_bytes() == FILES[name]
    for name in ("README.md", "pytorch_model.bin", "modeling_tiny.py", "optimizer.pt"):
        assert not hub.asked(name)


def test_the_hubs_own_client_finds_what_was_fetched(get: Get, hub: FakeHub) -> None:
    commit = hub.repos[REPO].commit
    folder = get()
    found = huggingface_hub.snapshot_download(
        REPO, revision=commit, local_files_only=True, allow_patterns=["*.safetensors"]
    )
    assert Path(found) == folder
    scanned = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    assert [repo.repo_id for repo in scanned.repos] == [REPO]
    assert not scanned.warnings


def test_a_second_fetch_asks_and_says_nothing(get: Get, hub: FakeHub, said: list[str]) -> None:
    folder = get()
    said.clear()
    hub.requests.clear()
    assert get() == folder
    assert get(local_files_only=True) == folder
    assert not hub.requests
    assert not said


def test_the_size_is_said_before_the_first_byte(get: Get, hub: FakeHub) -> None:
    at_announcement: list[int] = []
    lines: list[str] = []

    def announce(line: str) -> None:
        lines.append(line)
        at_announcement.append(sum("/api/" not in request.path for request in hub.requests))

    commit = hub.repos[REPO].commit
    fetch(REPO, commit, announce=announce)
    total = sum(len(FILES[name]) for name in WANTED)
    assert lines == [f"downloads {size_text(total)}: {REPO}@{commit}"]
    assert at_announcement == [0]


def test_progress_ends_at_the_size_that_was_said(get: Get) -> None:
    seen: list[tuple[str, int, int]] = []
    get(progress=lambda *news: seen.append(news))
    total = sum(len(FILES[name]) for name in WANTED)
    assert seen[-1] == (REPO, total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_files_that_two_commits_share_come_once(get: Get, hub: FakeHub, said: list[str]) -> None:
    get()
    hub.add(REPO, FILES | {"config.json": b'{"model_type": "new"}'})
    hub.requests.clear()
    folder = get()
    assert (folder / "config.json").read_bytes() == b'{"model_type": "new"}'
    assert (folder / WEIGHTS).read_bytes() == CONTENT
    assert not hub.asked(WEIGHTS)
    assert said[-1].startswith("downloads 21 B: ")


def test_an_adapter_comes_with_its_config_and_without_any_model(get: Get, hub: FakeHub) -> None:
    adapter = {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": b"lora",
        "config.json": b"",
    }
    hub.add("maker/lora", adapter)
    folder = get("maker/lora", allow_patterns=ADAPTER_FILES)
    assert _names(folder) == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_newest_commit_comes_with_digests_of_large_files(hub: FakeHub) -> None:
    pin = newest(REPO)
    assert pin.revision == hub.repos[REPO].commit
    assert pin.digests == {name: _sha256(FILES[name]) for name in (WEIGHTS, "tokenizer.json")}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (141_107_412_208, "141.1 GB"), (2e12, "2.0 TB")],
)
def test_sizes_read_as_users_write_them(size: float, text: str) -> None:
    assert size_text(size) == text


# Cut off


def test_a_connection_that_breaks_goes_on_where_it_broke(
    get: Get, hub: FakeHub, waits: list[float]
) -> None:
    hub.fail(WEIGHTS, Fault(cut_at=100_000), Fault(cut_at=50_000))
    assert (get() / WEIGHTS).read_bytes() == CONTENT
    stored = [request for request in hub.asked(WEIGHTS) if request.server == "store"]
    ranges = [request.headers.get("Range") for request in stored]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert waits == [1.0, 1.0], "progress starts the count again"


def test_a_download_that_was_given_up_goes_on_in_the_next_run(
    get: Get, hub: FakeHub, said: list[str]
) -> None:
    hub.fail(WEIGHTS, Fault(cut_at=200_000), Fault(status=503, times=FOREVER))
    _refused(get, "(503)", "what was downloaded is kept")
    hub.heal()
    hub.requests.clear()
    assert (get() / WEIGHTS).read_bytes() == CONTENT
    assert hub.asked(WEIGHTS)[-1].headers["Range"] == "bytes=200000-"
    assert said[-1].startswith("downloads 10")  # the rest of the weights and the tokenizer
    assert not hub.asked("config.json"), "it was whole"


def test_an_interrupted_download_goes_on_in_the_next_run(get: Get, hub: FakeHub) -> None:
    def interrupt(_: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(progress=interrupt)
    hub.requests.clear()
    assert (get() / WEIGHTS).read_bytes() == CONTENT
    assert int(hub.asked(WEIGHTS)[-1].headers["Range"][6:-1]) > 100_000


def test_a_server_that_knows_no_ranges_sends_the_file_afresh(get: Get, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(cut_at=100_000))
    hub.ranges = False
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_truncated_file_is_fetched_again(get: Get, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(content=CONTENT[:1000]))
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_file_that_stays_truncated_is_given_up(
    get: Get, hub: FakeHub, waits: list[float]
) -> None:
    hub.fail(WEIGHTS, Fault(content=CONTENT[:1000], times=FOREVER))
    _refused(get, WEIGHTS, "truncated")
    assert len(waits) < 10
    hub.heal()
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_file_that_is_too_long_is_given_up(get: Get, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(content=CONTENT + b"more", times=FOREVER))
    _refused(get, WEIGHTS, "truncated or too long")


# Digests


def test_a_file_that_is_not_what_the_hub_lists_is_removed(
    get: Get, hub: FakeHub, tmp_path: Path
) -> None:
    hub.fail(WEIGHTS, Fault(content=b"?" * len(CONTENT)))
    with pytest.raises(DigestMismatchError, match="model.safetensors of maker/tiny@.*is not what"):
        get()
    held = [path.name for path in _blobs(tmp_path)]
    assert not any(name.startswith(_sha256(CONTENT)[7:]) for name in held)
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_small_file_is_checked_too(get: Get, hub: FakeHub) -> None:
    hub.fail("config.json", Fault(content=b'{"model_type": "evil"}'))
    with pytest.raises(DigestMismatchError, match="config.json"):
        get()


def test_a_hub_that_holds_other_content_than_is_pinned_is_not_downloaded_from(
    get: Get, hub: FakeHub, said: list[str]
) -> None:
    with pytest.raises(DigestMismatchError, match="other content of model.safetensors.*pin"):
        get(digests={WEIGHTS: _sha256(b"what was pinned")})
    with pytest.raises(DigestMismatchError, match="does not list model-2.safetensors"):
        get(digests={"model-2.safetensors": _sha256(b"")})
    assert not hub.asked(WEIGHTS)
    assert not said


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_pinned_file_that_was_damaged_in_the_cache_is_removed_and_comes_again(
    get: Get, name: str
) -> None:
    pins = {name: _sha256(FILES[name])}
    path = get(digests=pins) / name
    path.resolve().write_bytes(b"!" * len(FILES[name]))
    with pytest.raises(DigestMismatchError, match=f"{name}.*in the cache is corrupted"):
        get(digests=pins, local_files_only=True)
    assert not path.exists()
    assert (get(digests=pins) / name).read_bytes() == FILES[name]


def test_a_file_that_is_too_short_in_the_cache_comes_again(get: Get) -> None:
    path = get() / WEIGHTS
    path.resolve().write_bytes(CONTENT[:10])
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_what_others_put_into_the_cache_is_read_once(get: Get, tmp_path: Path) -> None:
    folder = get()
    shutil.rmtree(folder.parents[1] / "afbench")
    (folder / WEIGHTS).resolve().write_bytes(b"!" * len(CONTENT))
    with pytest.raises(DigestMismatchError, match="removed"):
        get()
    assert (get() / WEIGHTS).read_bytes() == CONTENT


# No network


def test_offline_a_model_that_is_not_in_the_cache_is_named(
    get: Get, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refused(get, REPO, "not in the cache", "HF_HUB_OFFLINE", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _refused(get, REPO, "not in the cache")
    with pytest.raises(AfbenchError, match="cannot ask for the commit"):
        newest(REPO)
    assert not hub.requests


def test_offline_a_part_of_a_model_is_not_a_model(get: Get, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(status=404, code="EntryNotFound", times=FOREVER))
    _refused(get, f"no file {WEIGHTS}")
    _refused(get, WEIGHTS, "not in the cache", local_files_only=True)


def test_offline_what_others_put_into_the_cache_is_used(get: Get) -> None:
    folder = get()
    shutil.rmtree(folder.parents[1] / "afbench")
    pins = {WEIGHTS: _sha256(CONTENT)}
    assert get(local_files_only=True, digests=pins) == folder
    with pytest.raises(DigestMismatchError):
        get(local_files_only=True, digests={"config.json": _sha256(b"other")})


def test_offline_a_shard_that_is_missing_is_named(get: Get, hub: FakeHub) -> None:
    shards = {f"model-0000{at}-of-00002.safetensors": b"%d" % at for at in (1, 2)}
    index = json.dumps({"weight_map": {f"tensor-{name}": name for name in shards}}).encode()
    hub.add("maker/shards", {"model.safetensors.index.json": index, **shards})
    folder = get("maker/shards")
    shutil.rmtree(folder.parents[1] / "afbench")
    (folder / "model-00002-of-00002.safetensors").unlink()
    _refused(get, "model-00002-of-00002", repo_id="maker/shards", local_files_only=True)


def test_without_a_network_it_says_so_at_once(get: Get, hub: FakeHub, waits: list[float]) -> None:
    _refused(get, "cannot be reached", "HF_HUB_OFFLINE=1", endpoint="http://127.0.0.1:9")
    assert not waits


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_named(get: Get, endpoint: str) -> None:
    _refused(get, "HF_ENDPOINT", endpoint=endpoint)


@pytest.mark.parametrize("answer", [b"<html>Welcome</html>", b"\xff\xfe", b"[]", b'{"id": 1}'])
def test_a_page_that_asks_to_log_in_is_no_hub(get: Get, hub: FakeHub, answer: bytes) -> None:
    hub.fail("", Fault(content=answer, times=FOREVER))
    _refused(get, "something else than a hub", "HF_ENDPOINT")


# No access, no such thing


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_to_accept_its_licence(
    get: Get, hub: FakeHub, said: list[str], status: int
) -> None:
    commit = hub.repos[REPO].commit
    hub.fail(f"/resolve/{commit}/config.json", Fault(status, "GatedRepo", times=FOREVER))
    _refused(get, "gated", f"{hub.url}/{REPO}", "accept its licence", "HF_TOKEN", str(status))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_what_it_may_be(get: Get, hub: FakeHub, status: int) -> None:
    hub.fail(hub.repos[REPO].commit, Fault(status, times=FOREVER))
    _refused(get, "refuses access", "gated or private", "accept its licence", "HF_TOKEN")


def test_a_repository_that_does_not_exist_is_named(get: Get) -> None:
    _refused(get, "no repository maker/none", repo_id="maker/none", revision="a" * 40)


def test_a_commit_that_does_not_exist_is_named(get: Get) -> None:
    _refused(get, f"{REPO} has no revision {'b' * 40}", "pin", revision="b" * 40)


@pytest.mark.parametrize("repo_id", ["a/b/c", "../escape", "a b/c", ""])
def test_an_id_that_is_none_is_named(get: Get, hub: FakeHub, repo_id: str) -> None:
    for offline in (False, True):
        with pytest.raises(AfbenchError, match="is no id of a hub"):
            get(repo_id=repo_id, revision="a" * 40, local_files_only=offline)
    assert not hub.requests


def test_a_repository_of_pickles_is_refused(get: Get, hub: FakeHub, said: list[str]) -> None:
    hub.add("maker/old", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    _refused(get, "only a pickle (pytorch_model.bin)", "safetensors", repo_id="maker/old")
    assert not hub.asked("pytorch_model.bin")
    assert not said


def test_an_adapter_in_a_models_place_is_named_and_the_reverse(get: Get, hub: FakeHub) -> None:
    hub.add("maker/lora", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"lora"})
    _refused(get, "is an adapter", "source.adapter", repo_id="maker/lora")
    _refused(get, "is a whole model", allow_patterns=ADAPTER_FILES)


def test_a_file_outside_of_its_folder_is_never_fetched(get: Get, hub: FakeHub) -> None:
    name = "additional_chat_templates/../../../evil.jinja"
    hub.add(REPO, FILES | {name: b"out"})
    assert _names(get()) == WANTED
    assert not hub.asked("evil.jinja")


# A busy hub


def test_a_busy_hub_is_waited_for_as_long_as_it_asks(
    get: Get, hub: FakeHub, waits: list[float], said: list[str]
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    commit = hub.repos[REPO].commit
    hub.fail(
        commit,
        Fault(429, headers={"Retry-After": "7"}),
        Fault(429, headers={"Retry-After": soon}),
        Fault(429, headers={"ratelimit": '"api";r=0;t=55'}),
        Fault(429),
    )
    get()
    assert waits == [7, pytest.approx(30, abs=3), 55, 8]
    assert said[0].endswith(f"asks to wait 7 s: {REPO}@{commit}")


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("part", ["api", "file"])
def test_a_hub_that_stays_busy_is_given_up_in_one_line(
    get: Get, hub: FakeHub, waits: list[float], status: int, part: str
) -> None:
    commit = hub.repos[REPO].commit
    hub.fail(commit if part == "api" else WEIGHTS, Fault(status, times=FOREVER))
    _refused(get, f"({status})", "still does after waiting", "run it again later")
    assert waits == [1, 2, 4, 8]


def test_a_hub_that_asks_to_wait_for_an_hour_is_not_waited_for(
    get: Get, hub: FakeHub, waits: list[float]
) -> None:
    hub.fail(hub.repos[REPO].commit, Fault(429, headers={"Retry-After": "3600"}, times=FOREVER))
    _refused(get, "(429)")
    assert not waits


def test_a_fault_of_the_store_passes(get: Get, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(502), Fault(cut_at=10), Fault(500))
    assert (get() / WEIGHTS).read_bytes() == CONTENT


# The token


def test_the_token_goes_to_the_hub_and_not_to_where_its_files_lie(get: Get, hub: FakeHub) -> None:
    get()
    assert {r.headers.get("Authorization") for r in hub.requests if r.server == "hub"} == {
        f"Bearer {TOKEN}"
    }
    assert {r.headers.get("Authorization") for r in hub.requests if r.server == "store"} == {None}


def test_a_token_that_no_request_may_hold_is_not_shown(
    get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}é")
    _refused(get, "set HF_TOKEN")


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


# The disk


def test_a_disk_without_room_is_named_before_the_first_byte(
    get: Get, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    _refused(get, "no room", "1 B are free", "HF_HOME")
    assert not hub.asked(WEIGHTS)


def test_a_disk_that_fills_up_is_named_and_the_part_is_kept(
    get: Get, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        _refused(get, "the disk is full", "HF_HOME")
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(get: Get, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file where the cache should be")
    _refused(get, "cannot keep", "HF_HOME")
