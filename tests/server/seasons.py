"""A season that is open today, with a key and a sealed set of a few files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from afbench.leaderboard.keys import SigningKey
from afbench.leaderboard.season import SEASONS, PublicRun, write_season
from tests.leaderboard.boards import SEASON, Small, season, small
from tests.submission.small_run import SETTINGS


@dataclass(frozen=True)
class OpenSeason:
    """Where everything of it lies."""

    place: Path
    small: Small

    @property
    def name(self) -> str:
        return SEASON

    @property
    def board(self) -> Path:
        return self.small.board

    @property
    def sealed(self) -> Path:
        return self.small.sealed

    @property
    def signer(self) -> SigningKey:
        return self.small.key

    def change(self, **fields: Any) -> None:
        """Other rules from now on."""
        path = self.board / SEASONS / self.name / "season.yaml"
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(content | fields))


def open_season(place: Path, **fields: Any) -> OpenSeason:
    """One of the run that tests' bundles are of."""
    found = OpenSeason(place, small(place))
    today = datetime.datetime.now(datetime.UTC).date()
    given: dict[str, Any] = {
        "opens": today - datetime.timedelta(days=30),
        "closes": today + datetime.timedelta(days=30),
        "public": PublicRun(
            fit_scenarios=SETTINGS.fit_scenarios, test_scenarios=SETTINGS.test_scenarios
        ),
    }
    write_season(found.board, season(**given | fields))
    return found
