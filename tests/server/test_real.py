"""A whole season by the commands: sealed, served, submitted to, scored blind, and sound."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from afbench.errors import SandboxError
from afbench.leaderboard.board import KEYS
from afbench.leaderboard.draws import Secret
from afbench.leaderboard.keys import generate_key
from afbench.leaderboard.sealing import Sealing, check_unsealed, seal
from afbench.leaderboard.season import PublicRun, write_season
from afbench.results.progress import Silent
from afbench.sandbox.choose import choose
from afbench.store import Store
from tests.leaderboard.boards import SEASON, season
from tests.leaderboard.test_blind import HOME, PUBLIC, SEED, lent
from tests.server.bundles import Made, base_bundle
from tests.server.processes import Process, started, until
from tests.submission.small_run import NAME, SETTINGS

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "afbench.cli.app"]


@dataclass(frozen=True)
class Place:
    """Where the scorer has everything."""

    folder: Path
    made: Made

    def options(self, *names: str) -> list[str]:
        given = {
            "data": "data", "board": "leaderboard", "sealed": "sealed", "key": "key.pem",
            "cache": "cache",
        }  # fmt: skip
        return [part for name in names for part in (f"--{name}", str(self.folder / given[name]))]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *command], capture_output=True, text=True, timeout=300,
            env={**os.environ, **environment},
        )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    try:
        choose()
    except SandboxError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("real")
    board, today = folder / "leaderboard", datetime.datetime.now(datetime.UTC).date()
    generate_key(folder / "key.pem", board / KEYS / "scorer.pub")
    rules = season(
        opens=today, closes=today + datetime.timedelta(days=9), fit="home", fit_scenarios=10,
        test_scenarios=24,
        public=PublicRun(
            fit_scenarios=SETTINGS.fit_scenarios, test_scenarios=SETTINGS.test_scenarios
        ),
    )  # fmt: skip
    write_season(board, rules)
    sealing = Sealing(
        check_unsealed(board, SEASON), Secret(SEED, SEASON), folder / "sealed", PUBLIC,
        Store(folder / "cache"), Silent(), lent, [HOME],
    )  # fmt: skip
    seal(board, sealing, 4, today)
    return Place(folder, base_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def server(place: Place) -> Iterator[Process]:
    options = place.options("data", "board", "sealed", "key", "cache")
    command = ["-m", "afbench.cli.app", "leaderboard", "serve", "--season", SEASON, "--port", "0"]
    with started([*command, *options]) as process:
        yield process


def test_a_submission_becomes_a_verified_entry(place: Place, server: Process) -> None:
    made = place.run("leaderboard", "token", "create", "ada", *place.options("data"))
    token = made.stdout.strip()
    url = server.wait_for("listening")["url"]

    def sent(number: int, code: bytes = b"") -> str:
        path = place.made.bundle(number, code=code)
        done = place.run("submit", str(path), "--to", url, "--json", AFBENCH_TOKEN=token)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["id"])

    def status(number: str) -> dict[str, object] | None:
        headers = {"Authorization": f"Bearer {token}"}
        reply = httpx2.get(f"{url}/api/v1/submissions/{number}", headers=headers, timeout=30)
        found: dict[str, object] = reply.json()
        return found if found["status"] in ("done", "refused", "failed") else None

    good = sent(1)
    lacking = sent(2, b"import a_library_that_nobody_has\n")
    done = until(lambda: status(good), 1200, lambda: (server.lines, server.other), pause=1.0)
    assert done["status"] == "done", (done, server.lines)
    refused = until(lambda: status(lacking), 600, lambda: server.lines, pause=1.0)
    assert refused["status"] == "refused", (refused, server.lines)
    assert "a_library_that_nobody_has" in str(refused["reason"])

    checked = place.run("leaderboard", "validate", "--json", *place.options("board"))
    assert json.loads(checked.stdout) == {"entries": {"verified": 1}, "records": 0, "problems": []}
    [shown] = httpx2.get(f"{url}/api/v1/results", timeout=30).json()["entries"]
    assert shown == done["entry"] and shown["detector"] == NAME
    assert shown["figures"]["auroc"]["value"] is not None
    assert "withheld" in shown["figures"]["brier"]["reason"]
    ladders = json.loads((place.folder / "sealed" / "ladder.json").read_text())
    assert ladders["best"] == {"ada": shown["figures"]["auroc"]["value"]}
    assert server.end() == 0 and server.other == []
    assert token not in json.dumps(server.lines)
