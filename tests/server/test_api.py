"""Health, seasons, results, problems, and what the log says."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from afbench import __version__
from afbench.server import serving
from afbench.server.database import Database
from afbench.server.logs import JsonLines, log, start_logs
from afbench.server.scoring import RefusedError
from afbench.server.settings import Settings
from tests.server.bundles import Made
from tests.server.databases import Absent, Postgres, postgres
from tests.server.fast import FastScorer, fast_worker
from tests.server.processes import until
from tests.server.running import Running, problem, running
from tests.server.seasons import OpenSeason


@pytest.fixture
def server(settings: Settings, database: Database) -> Iterator[Running]:
    with running(settings, database) as found:
        yield found


def test_health_tells_what_waits(server: Running, made: Made) -> None:
    assert server.get("health").json() == {
        "status": "ok", "version": __version__, "queued": 0, "running": 0, "publishing": 0,
        "oldest": None,
    }  # fmt: skip
    server.send(made.bundle(1), server.token())
    shown = server.get("health").json()
    assert shown["queued"] == 1 and 0 <= shown["oldest"] < 60


def test_the_season_is_shown_with_its_rules(server: Running, season: OpenSeason) -> None:
    [shown] = server.get("seasons").json()["seasons"]
    assert (shown["season"], shown["status"], shown["quota"]) == (season.name, "open", 5)
    assert shown["public"]["test_scenarios"] == 8


def test_a_result_is_shown_to_its_sender_and_to_all(
    server: Running, season: OpenSeason, made: Made
) -> None:
    token = server.token()
    number = server.send(made.bundle(1), token).json()["id"]
    assert server.get("results").json() == {"season": season.name, "entries": []}
    scorer = FastScorer(season.board, season.signer)
    fast_worker(server.database, server.settings, scorer, season.sealed).step()
    shown = server.get(f"submissions/{number}", token).json()
    [entry] = server.get("results").json()["entries"]
    assert shown["status"] == "done" and shown["entry"] == entry
    assert entry["figures"]["auroc"]["value"] is not None


def test_an_unsound_entry_is_not_shown(server: Running, season: OpenSeason) -> None:
    sound = season.small.put(season.small.verified())
    assert len(server.get("results").json()["entries"]) == 1
    sound.write_text(sound.read_text().replace("0.75", "0.99"))
    assert server.get("results").json()["entries"] == []


def test_a_refusal_is_one_line_to_its_sender(
    server: Running, season: OpenSeason, made: Made
) -> None:
    token = server.token()
    number = server.send(made.bundle(1), token).json()["id"]
    scorer = FastScorer(season.board, season.signer, fault=RefusedError("no score", "mend it"))
    fast_worker(server.database, server.settings, scorer, season.sealed).step()
    shown = server.get(f"submissions/{number}", token).json()
    assert (shown["status"], shown["reason"], shown["fix"]) == ("refused", "no score", "mend it")
    assert shown["entry"] is None and shown["position"] is None


def test_every_answer_is_documented(server: Running) -> None:
    document = server.get("openapi.json").json()
    assert document["info"]["version"] == __version__
    routes = [
        (path, method, route)
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    ]
    assert {path for path, _, _ in routes} == {
        f"/api/v1/{name}"
        for name in ("submissions", "submissions/{number}", "health", "seasons", "results")
    }
    for _, _, route in routes:
        for status, answer in route["responses"].items():
            [content] = answer["content"].values()
            is_problem = content["schema"]["$ref"].endswith("/Problem")
            assert is_problem == (int(status) >= 400), (route, status)
    assert set(document["components"]["schemas"]["Problem"]["properties"]) == {
        "error", "where", "fix",
    }  # fmt: skip
    post = document["paths"]["/api/v1/submissions"]["post"]["responses"]
    assert {"200", "201", "400", "401", "403", "408", "409", "413", "422", "429"} <= set(post)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/docs", 404), ("PUT", "/api/v1/submissions", 405),
     ("GET", "/api/v1/submissions/" + "x" * 200, 422), ("GET", "/api/v1/../x", 404)],
)  # fmt: skip
def test_whatever_is_wrong_is_a_problem(
    server: Running, method: str, path: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {server.token()}"}
    problem(httpx2.request(method, server.url + path, headers=headers), status)


def test_a_fault_of_the_server_tells_nothing_and_is_logged(
    server: Running, season: OpenSeason, caplog: pytest.LogCaptureFixture
) -> None:
    rules = season.board / "seasons" / season.name / "season.yaml"
    rules.write_text("nonsense: [")
    reply = server.get("seasons")
    assert problem(reply, 500) == "something went wrong in the server"
    assert reply.headers["x-request-id"] in reply.json()["fix"]
    [record] = [one for one in caplog.records if one.message == "unexpected"]
    assert record.exc_info is not None and "nonsense" not in reply.text


@pytest.fixture(scope="module")
def mortal_postgres() -> Iterator[Postgres]:
    """One that no other test uses."""
    try:
        with postgres() as own:
            yield own
    except Absent as error:
        pytest.skip(str(error))


def test_a_database_that_is_gone_is_told_so_and_comes_back(
    mortal_postgres: Postgres, season: OpenSeason, made: Made, tmp_path: Path
) -> None:
    url = mortal_postgres.create()
    database = Database(url)
    database.migrate()
    settings = Settings(tmp_path / "data", season.board, season.name, url, rate=100, burst=100)
    with running(settings, database) as server:
        token = server.token()
        assert server.get("health").status_code == 200
        with mortal_postgres.stopped():
            for reply in (
                server.get("health"),
                server.get("submissions", token),
                server.send(made.bundle(1), token),
            ):
                assert problem(reply, 503) == "the database does not answer"
                assert reply.headers["Retry-After"]
        assert server.get("health").status_code == 200
        assert server.send(made.bundle(1), token).status_code == 201
    database.close()


def test_the_log_is_json_and_never_holds_a_token(server: Running, made: Made) -> None:
    said = io.StringIO()
    handler, logger = logging.StreamHandler(said), logging.getLogger("afbench.server")
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def of(event: str, status: int) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in said.getvalue().splitlines(keepends=True)[:-1]]
        return [one for one in lines if (one["event"], one.get("status")) == (event, status)]

    try:
        token = server.token()
        number = server.send(made.bundle(1), token).json()["id"]
        server.send(made.bundle(1), "wrong-token")
        server.get("health")
        [sent] = until(lambda: of("request", 201), 60)  # logged after it is answered
        [refused] = until(lambda: of("refused", 401), 60)
    finally:
        logger.removeHandler(handler)
    assert (sent["submission"], sent["account"]) == (number, "ada")
    assert {"time", "level", "request", "path", "seconds"} <= set(sent)
    assert refused["reason"] == "the token is not known"
    assert token not in said.getvalue() and "wrong-token" not in said.getvalue()


def test_the_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    start_logs()
    log("something", account="ada", submission=None)
    logging.getLogger("uvicorn").error("trouble")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first | {"time": ""} == {
        "time": "", "level": "info", "event": "something", "account": "ada",
    }  # fmt: skip
    assert second["event"] == "trouble"


def test_a_line_of_the_log_is_one_line_whatever_it_holds() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "a\nb", None, None)
    record.fields = {"text": "c\nd" * 10_000, "path": Path("x")}
    line = JsonLines().format(record)
    assert "\n" not in line and len(line) < 5000 and json.loads(line)["event"] == "a\nb"


def test_what_a_killed_upload_left_is_swept_up(settings: Settings, database: Database) -> None:
    old, young = settings.incoming / "old", settings.incoming / "young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "bundle.tar.gz").write_bytes(b"x")
    os.utime(old, (1.0, 1.0))
    with running(settings, database):
        assert not old.exists() and young.exists()


def test_a_connection_without_a_request_is_closed(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_HEAD_SECONDS", 0.4)
    with running(settings, database) as server:
        slow = [
            b"", b"GET /api/v1/health HTTP/1.1\r\nHost:",
            b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\nGET",
        ]  # fmt: skip
        for head in slow:
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(head)
                while connection.recv(4096):
                    pass
        assert server.get("health").status_code == 200
