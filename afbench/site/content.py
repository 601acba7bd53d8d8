"""What the site shows, read from a leaderboard's folder: records of sweeps, curves, seasons.

Records and entries are written by strangers: names become names of files, so that they are checked
here, before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, get_args

from afbench.catalog.fields import NAME_PATTERN
from afbench.catalog.manifests import Tier
from afbench.errors import AfbenchError, LeaderboardError
from afbench.leaderboard.board import RESULTS, validate
from afbench.leaderboard.entry import Entry
from afbench.leaderboard.season import RULES, SEASONS, Season, read_season
from afbench.results.json_file import read_model
from afbench.results.record import DetectorFigures, ResultRecord, load_record
from afbench.site.curves import CURVES, CurveFile, read_curves

SPLITS: Final = {
    "recipe": "Held-out recipes",
    "environment": "Held-out environments",
    "organism": "Held-out organisms",
    "cue": "Held-out cues",
    "in-distribution": "Same organisms",
}
"""Titles of the splits, in the order of pages; the first is the headline."""

_NAME: Final = re.compile(NAME_PATTERN)
_MAX_NAME: Final = 80
_TIERS: Final = get_args(Tier)


@dataclass(frozen=True)
class Sweep:
    """One record of a whole sweep.

    Attributes:
        zoo: name of the folder that it lies in.
        curves: what was computed from its scores; None where nobody has.
    """

    zoo: str
    record: ResultRecord
    curves: CurveFile | None

    @property
    def split(self) -> str:
        """How fit and test cases are separated."""
        return self.record.settings.split

    @property
    def version(self) -> str:
        """Of afbench; figures of different versions are not compared."""
        return self.record.inputs.versions.get("afbench", "of an unknown version")

    @cached_property
    def figures(self) -> dict[str, DetectorFigures]:
        """Of each detector, by name."""
        return {one.name: one for one in self.record.detectors}


@dataclass(frozen=True, slots=True)
class SeasonEntries:
    """A season's rules, and its entries."""

    rules: Season
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """All of a leaderboard. The first sweep is the headline."""

    sweeps: tuple[Sweep, ...]
    seasons: tuple[SeasonEntries, ...]

    @property
    def zoos(self) -> list[str]:
        """Names of the zoos, that of the headline first."""
        return list(dict.fromkeys(sweep.zoo for sweep in self.sweeps))

    def of_zoo(self, zoo: str) -> list[Sweep]:
        """The sweeps of one zoo."""
        return [sweep for sweep in self.sweeps if sweep.zoo == zoo]

    def comparable(self, zoo: str) -> tuple[list[Sweep], list[Sweep]]:
        """A zoo's sweeps of the version of its first one, and those of other versions."""
        sweeps = self.of_zoo(zoo)
        alike = [sweep for sweep in sweeps if sweep.version == sweeps[0].version]
        return alike, [sweep for sweep in sweeps if sweep not in alike]


def read_content(board: Path) -> Content:
    """Read and check a leaderboard.

    Raises:
        LeaderboardError: there is none, nothing is in it, or something in it is not as it should
            be; names the file, and the field where one is malformed.
    """
    if not board.is_dir():
        raise LeaderboardError("there is no leaderboard", where=str(board), fix="give --board")
    # Before `validate`, whose line for a malformed record names no field.
    found = [_sweep(board, path) for path in sorted((board / RESULTS).glob("*/*.json"))]
    report = validate(board)
    if report.problems:
        raise LeaderboardError(report.problems[0])
    sweeps = tuple(sorted(found, key=_order))
    seasons = tuple(_seasons(board, report.entries))
    if not sweeps and not any(one.entries for one in seasons):
        raise LeaderboardError("the leaderboard holds no result", where=str(board / RESULTS))
    return Content(sweeps, seasons)


def _order(sweep: Sweep) -> tuple[str, int, str]:
    known = list(SPLITS)
    place = known.index(sweep.split) if sweep.split in known else len(known)
    return sweep.zoo, place, sweep.split


def _sweep(board: Path, path: Path) -> Sweep:
    where = path.relative_to(board).as_posix()
    try:
        record = load_record(path)
    except AfbenchError as error:
        raise LeaderboardError(_named(path) or error.what, where=where, fix=error.fix) from None
    zoo = path.parent.name
    _check_names(record, zoo, where)
    curves = read_curves(board / CURVES / zoo / path.name, record)
    return Sweep(zoo, record, curves)


def _named(path: Path) -> str | None:
    """What is wrong with a record, with the field; None where its content breaks no schema."""
    try:
        read_model(ResultRecord, path)
    except AfbenchError as error:
        return error.what
    return None


def _check_names(record: ResultRecord, zoo: str, where: str) -> None:
    """Whatever becomes part of a file's name or of a table in CSV is a plain name."""
    for field, text in _names(record):
        if len(text) > _MAX_NAME or not _NAME.fullmatch(text):
            raise LeaderboardError(f"field '{field}': {text[:40]!r} is no name", where=where)
    if not _NAME.fullmatch(zoo):
        raise LeaderboardError(f"the folder {zoo[:40]!r} is no name", where=where)
    if not record.detectors:
        raise LeaderboardError("field 'detectors': is empty", where=where)
    for part in ("detectors", "organisms"):
        names = [one.name for one in getattr(record, part)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise LeaderboardError(f"field '{part}': '{twice}' is given twice", where=where)
    for number, one in enumerate(record.detectors):
        if one.tier not in _TIERS:
            raise LeaderboardError(
                f"field 'detectors.{number}.tier': {one.tier[:40]!r} is no tier", where=where
            )


def _names(record: ResultRecord) -> Iterator[tuple[str, str]]:
    yield "settings.split", record.settings.split
    for number, organism in enumerate(record.organisms):
        for field in ("name", "environment", "recipe_family"):
            yield f"organisms.{number}.{field}", getattr(organism, field)
    for number, one in enumerate(record.detectors):
        yield f"detectors.{number}.name", one.name
        for field in ("excess_over_floor", "uplift_over_black_box", "uplift_at_equal_budget"):
            compared = getattr(one, field)
            if compared is not None and compared.rival is not None:
                yield f"detectors.{number}.{field}.rival", compared.rival


def _seasons(board: Path, entries: Sequence[Entry]) -> Iterator[SeasonEntries]:
    for path in sorted((board / SEASONS).glob(f"*/{RULES}")):
        name = path.parent.name
        own = [entry for entry in entries if entry.season == name]
        yield SeasonEntries(read_season(board, name), tuple(sorted(own, key=lambda e: e.digest)))
