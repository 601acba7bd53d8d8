"""The commands: tokens are shown once, and what is missing is one line."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from afbench.cli.app import main
from tests.server.databases import free_port
from tests.server.processes import started
from tests.server.running import bearer
from tests.server.seasons import OpenSeason


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code of a command, and what it printed."""
    code = 0
    try:
        main(["leaderboard", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_token_is_shown_once_and_can_be_revoked(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(tmp_path), "--database", url]
    code, token, _ = ran(capsys, "token", "create", "ada", *where)
    token = token.strip()
    assert code == 0 and re.fullmatch(r"afb_[0-9a-f]{8}_[\w-]{43}", token)
    code, listed, _ = ran(capsys, "token", "list", *where)
    assert "ada" in listed and "valid" in listed and token not in listed
    code, said, _ = ran(capsys, "token", "revoke", "1", *where)
    assert code == 0 and "is revoked" in said
    shown = json.loads(ran(capsys, "token", "list", "--json", *where)[1])
    assert shown[0]["revoked"] and shown[0]["prefix"] == token[:12]
    for wrong in (["token", "revoke", "99"], ["token", "create", "No Name"], ["retry", "0"]):
        code, _, said = ran(capsys, *wrong, *where)
        assert code == 2 and len(said.strip().splitlines()) == 1
    assert ran(capsys, "migrate", *where)[0] == 0


@pytest.mark.parametrize("command", ["serve", "work"])
def test_what_a_worker_lacks_is_one_line(
    season: OpenSeason, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    where = ["--data", str(tmp_path), "--board", str(season.board), "--season", season.name]
    key, sealed = str(season.place / "key.pem"), str(season.sealed)
    empty = tmp_path / "empty"
    empty.mkdir()
    for further, match in (
        ([], "--sealed and --key"),
        (["--sealed", sealed, "--key", str(tmp_path / "none")], "cannot read the key"),
        (["--sealed", str(empty), "--key", key], "no sealed set"),
        (["--sealed", sealed, "--key", key, "--sandbox=magic"], "unknown sandbox"),
    ):
        code, _, said = ran(capsys, command, *where, *further)
        assert code == 2 and match in said and len(said.strip().splitlines()) == 1, said


def test_an_unknown_season_or_database_is_one_line(
    season: OpenSeason, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(tmp_path), "--board", str(season.board), "--workers", "0"]
    code, _, said = ran(capsys, "serve", *where, "--season", "sprong")
    assert code == 2 and "did you mean 'spring'" in said
    wrong = ["--season", "spring", "--database", "postgresql://x:word@127.0.0.1:9/x"]
    code, _, said = ran(capsys, "serve", *where, *wrong)
    assert code == 2 and "cannot use the database" in said and "word" not in said


def test_a_missing_library_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastapi" else real(name)
    )
    code, _, said = ran(capsys, "token", "list", "--data", str(tmp_path))
    assert code == 2 and "needs fastapi; pip install 'afbench[server]'" in said


def test_a_server_without_workers_serves_and_stops(season: OpenSeason, tmp_path: Path) -> None:
    port = free_port()
    command = [
        "-m", "afbench.cli.app", "leaderboard", "serve", "--season", season.name, "--board",
        str(season.board), "--data", str(tmp_path / "data"), "--workers", "0", "--port", str(port),
    ]  # fmt: skip
    with started(command) as server:
        url = server.wait_for("listening")["url"]
        assert url == f"http://127.0.0.1:{port}"
        reply = httpx2.get(f"{url}/api/v1/submissions", headers=bearer("no"), timeout=30)
        assert reply.status_code == 401
        with started(command) as second:  # the address is taken
            assert second.process.wait(120) == 2
        assert "cannot listen" in second.other[-1]
        assert server.end() == 0 and server.other == []
    assert [line["event"] for line in server.lines][-1] == "stopped"


def test_help_loads_nothing_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from afbench.cli.app import main\n"
        "try: main(['leaderboard', 'serve', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'fastapi', 'sqlalchemy', 'uvicorn', 'alembic', 'torch', 'numpy'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--max-upload" in done.stdout
