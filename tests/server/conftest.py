"""Databases of both kinds, a season, and bundles that no model was run for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from afbench.server.database import Database
from afbench.server.settings import Settings
from tests.server.bundles import Made, base_bundle
from tests.server.databases import Absent, Postgres, postgres
from tests.server.seasons import OpenSeason, open_season


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A server that is started by its command in this process sets up its logs."""
    loggers = [logging.getLogger(name) for name in ("afbench.server", "uvicorn")]
    before = [(one, list(one.handlers), one.propagate, one.level) for one in loggers]
    yield
    for one, handlers, propagate, level in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Postgres]:
    try:
        with postgres() as server:
            yield server
    except Absent as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'own.sqlite3'}"
    server: Postgres = request.getfixturevalue("own_postgres")
    return server.create()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with its tables."""
    database = Database(url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What bundles are made from."""
    return base_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def season(tmp_path: Path) -> OpenSeason:
    """A leaderboard with a season that is open."""
    return open_season(tmp_path / "season")


@pytest.fixture
def settings(season: OpenSeason, tmp_path: Path, url: str) -> Settings:
    return Settings(tmp_path / "data", season.board, season.name, url, rate=1000, burst=10_000)
