"""Fetching from a hub, against a hub on this machine: what comes, what is kept, what is checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from afbench.errors import DigestMismatchError
from afbench.models import hub_transfer
from afbench.models.hub import ADAPTER_FILES, fetch, newest
from afbench.models.hub_cache import size_text
from tests.hub_server import (
    CONTENT,
    FILES,
    FOREVER,
    REPO,
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


def _blobs(folder: Path) -> list[Path]:
    return sorted((folder / "hub").glob("*/blobs/*"))


# What comes


def test_what_a_model_needs_comes_and_nothing_that_could_run_code(
    get: Fetcher, hub: FakeHub
) -> None:
    folder = get()
    assert names_in(folder) == WANTED
    for name in WANTED:
        assert (folder / name).read_bytes() == FILES[name]
    for name in ("README.md", "pytorch_model.bin", "modeling_tiny.py", "optimizer.pt"):
        assert not hub.asked(name)


def test_the_hubs_own_client_finds_what_was_fetched(get: Fetcher, hub: FakeHub) -> None:
    commit = hub.repos[REPO].commit
    folder = get()
    found = huggingface_hub.snapshot_download(
        REPO, revision=commit, local_files_only=True, allow_patterns=["*.safetensors"]
    )
    assert Path(found) == folder
    scanned = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE)
    assert [repo.repo_id for repo in scanned.repos] == [REPO]
    assert not scanned.warnings


def test_a_second_fetch_asks_and_says_nothing(get: Fetcher, hub: FakeHub) -> None:
    folder = get()
    get.said.clear()
    hub.requests.clear()
    assert get() == folder
    assert get(local_files_only=True) == folder
    assert not hub.requests
    assert not get.said


def test_the_size_is_said_before_the_first_byte(get: Fetcher, hub: FakeHub) -> None:
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


def test_progress_ends_at_the_size_that_was_said(get: Fetcher) -> None:
    seen: list[tuple[str, int, int]] = []
    get(progress=lambda *news: seen.append(news))
    total = sum(len(FILES[name]) for name in WANTED)
    assert seen[-1] == (REPO, total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_files_that_two_commits_share_come_once(get: Fetcher, hub: FakeHub) -> None:
    get()
    hub.add(REPO, FILES | {"config.json": b'{"model_type": "new"}'})
    hub.requests.clear()
    folder = get()
    assert (folder / "config.json").read_bytes() == b'{"model_type": "new"}'
    assert (folder / WEIGHTS).read_bytes() == CONTENT
    assert not hub.asked(WEIGHTS)
    assert get.said[-1].startswith("downloads 21 B: ")


def test_an_adapter_comes_with_its_config_and_without_any_model(get: Fetcher, hub: FakeHub) -> None:
    adapter = {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": b"lora",
        "config.json": b"",
    }
    hub.add("maker/lora", adapter)
    folder = get("maker/lora", allow_patterns=ADAPTER_FILES)
    assert names_in(folder) == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_newest_commit_comes_with_digests_of_large_files(hub: FakeHub) -> None:
    pin = newest(REPO)
    assert pin.revision == hub.repos[REPO].commit
    assert pin.digests == {name: sha256_of(FILES[name]) for name in (WEIGHTS, "tokenizer.json")}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (141_107_412_208, "141.1 GB"), (2e12, "2.0 TB")],
)
def test_sizes_read_as_users_write_them(size: float, text: str) -> None:
    assert size_text(size) == text


# Cut off


def test_a_connection_that_breaks_goes_on_where_it_broke(
    get: Fetcher, hub: FakeHub, waits: list[float]
) -> None:
    hub.fail(WEIGHTS, Fault(cut_at=100_000), Fault(cut_at=50_000))
    assert (get() / WEIGHTS).read_bytes() == CONTENT
    stored = [request for request in hub.asked(WEIGHTS) if request.server == "store"]
    ranges = [request.headers.get("Range") for request in stored]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert waits == [1.0, 1.0], "progress starts the count again"


def test_a_download_that_was_given_up_goes_on_in_the_next_run(get: Fetcher, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(cut_at=200_000), Fault(status=503, times=FOREVER))
    get.fails("(503)", "what was downloaded is kept")
    hub.heal()
    hub.requests.clear()
    assert (get() / WEIGHTS).read_bytes() == CONTENT
    assert hub.asked(WEIGHTS)[-1].headers["Range"] == "bytes=200000-"
    assert get.said[-1].startswith("downloads 10")  # the rest of the weights and the tokenizer
    assert not hub.asked("config.json"), "it was whole"


def test_an_interrupted_download_goes_on_in_the_next_run(get: Fetcher, hub: FakeHub) -> None:
    def interrupt(_: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(progress=interrupt)
    hub.requests.clear()
    assert (get() / WEIGHTS).read_bytes() == CONTENT
    assert int(hub.asked(WEIGHTS)[-1].headers["Range"][6:-1]) > 100_000


def test_a_server_that_knows_no_ranges_sends_the_file_afresh(get: Fetcher, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(cut_at=100_000))
    hub.ranges = False
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_truncated_file_is_fetched_again(get: Fetcher, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(content=CONTENT[:1000]))
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_file_that_stays_truncated_is_given_up(
    get: Fetcher, hub: FakeHub, waits: list[float]
) -> None:
    hub.fail(WEIGHTS, Fault(content=CONTENT[:1000], times=FOREVER))
    get.fails(WEIGHTS, "truncated")
    assert len(waits) < 10
    hub.heal()
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_file_that_is_too_long_is_given_up(get: Fetcher, hub: FakeHub) -> None:
    hub.fail(WEIGHTS, Fault(content=CONTENT + b"more", times=FOREVER))
    get.fails(WEIGHTS, "truncated or too long")


# Digests


def test_a_file_that_is_not_what_the_hub_lists_is_removed(
    get: Fetcher, hub: FakeHub, tmp_path: Path
) -> None:
    hub.fail(WEIGHTS, Fault(content=b"?" * len(CONTENT)))
    with pytest.raises(DigestMismatchError, match="model.safetensors of maker/tiny@.*is not what"):
        get()
    held = [path.name for path in _blobs(tmp_path)]
    assert not any(name.startswith(sha256_of(CONTENT)[7:]) for name in held)
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_small_file_is_checked_too(get: Fetcher, hub: FakeHub) -> None:
    hub.fail("config.json", Fault(content=b'{"model_type": "evil"}'))
    with pytest.raises(DigestMismatchError, match="config.json"):
        get()


def test_a_hub_that_holds_other_content_than_is_pinned_is_not_downloaded_from(
    get: Fetcher, hub: FakeHub
) -> None:
    with pytest.raises(DigestMismatchError, match="other content of model.safetensors.*pin"):
        get(digests={WEIGHTS: sha256_of(b"what was pinned")})
    with pytest.raises(DigestMismatchError, match="does not list model-2.safetensors"):
        get(digests={"model-2.safetensors": sha256_of(b"")})
    assert not hub.asked(WEIGHTS)
    assert not get.said


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_pinned_file_that_was_damaged_in_the_cache_is_removed_and_comes_again(
    get: Fetcher, name: str
) -> None:
    pins = {name: sha256_of(FILES[name])}
    path = get(digests=pins) / name
    path.resolve().write_bytes(b"!" * len(FILES[name]))
    with pytest.raises(DigestMismatchError, match=f"{name}.*in the cache is corrupted"):
        get(digests=pins, local_files_only=True)
    assert not path.exists()
    assert (get(digests=pins) / name).read_bytes() == FILES[name]


def test_a_file_that_is_too_short_in_the_cache_comes_again(get: Fetcher) -> None:
    path = get() / WEIGHTS
    path.resolve().write_bytes(CONTENT[:10])
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_what_others_put_into_the_cache_is_read_once(get: Fetcher, tmp_path: Path) -> None:
    folder = get()
    shutil.rmtree(folder.parents[1] / "afbench")
    (folder / WEIGHTS).resolve().write_bytes(b"!" * len(CONTENT))
    with pytest.raises(DigestMismatchError, match="removed"):
        get()
    assert (get() / WEIGHTS).read_bytes() == CONTENT


# The disk


def test_a_disk_without_room_is_named_before_the_first_byte(
    get: Fetcher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    get.fails("no room", "1 B are free", "HF_HOME")
    assert not hub.asked(WEIGHTS)


def test_a_disk_that_fills_up_is_named_and_the_part_is_kept(
    get: Fetcher, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        get.fails("the disk is full", "HF_HOME")
    assert (get() / WEIGHTS).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(get: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file where the cache should be")
    get.fails("cannot keep", "HF_HOME")
