from __future__ import annotations

from pathlib import Path

import pytest

from tests.site.boards import built, leaderboard


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leaderboard(tmp_path_factory.mktemp("site-board"))


@pytest.fixture(scope="session")
def pages(board: Path) -> dict[str, str]:
    return built(board)
