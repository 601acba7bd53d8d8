"""A season: its rules (season.yaml), and what was committed to before it (commitment.json)."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from afbench import __version__
from afbench.catalog.fields import Digest, Line, ManifestPart, Name
from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import load_yaml
from afbench.errors import LeaderboardError, UnknownNameError
from afbench.leaderboard.entry import Half
from afbench.results.json_file import first_problem, parse_model, read_bytes
from afbench.store import write_bytes, write_json

SEASONS: Final = "seasons"
RULES: Final = "season.yaml"
COMMITMENT: Final = "commitment.json"
HALVES: Final[tuple[Half, Half]] = ("feedback", "final")


class PublicRun(ManifestPart):
    """What a run must be of whose figures are reported: settings of `afbench submit`."""

    organism: str = "all"
    split: str = "recipe"
    fit_scenarios: int = Field(default=60, ge=1)
    test_scenarios: int = Field(default=100, ge=1)
    seed: int = 0


class Season(ManifestPart):
    """season.yaml.

    Attributes:
        afbench: the version that scores; figures of different versions are never compared.
        opens, closes: the first and the last day on which submissions are taken. The feedback half
            is scored until then, the final half after.
        fit: what detectors are fitted on: the public organisms of the same base, or only those of
            the environment that a sealed one comes from.
        fit_scenarios, test_scenarios: of each organism.
        public: the run on the public zoo that is reported beside the sealed one.
        quota: submissions of one account in the season.
        step: of released figures of the feedback half; also by how much a figure must be better to
            be released.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    season: Name
    summary: Line
    afbench: str
    opens: datetime.date
    closes: datetime.date
    fit: Literal["base", "home"] = "base"
    fit_scenarios: int = Field(default=60, ge=1)
    test_scenarios: int = Field(default=60, ge=1)
    public: PublicRun = PublicRun()
    quota: int = Field(default=5, ge=1)
    step: float = Field(default=0.02, gt=0, le=0.5)

    @model_validator(mode="after")
    def _in_order(self) -> Season:
        if self.closes < self.opens:
            raise ValueError("'closes' is before 'opens'")
        return self

    def check_half(self, half: Half, today: datetime.date) -> None:
        """Whether a half may be scored today.

        Raises:
            LeaderboardError: the season has not begun, or it is the other half's time.
        """
        if today < self.opens:
            raise LeaderboardError(f"season '{self.season}' opens on {self.opens}")
        if half == "feedback" and today > self.closes:
            raise LeaderboardError(
                f"season '{self.season}' closed on {self.closes}", fix="score the final half"
            )
        if half == "final" and today <= self.closes:
            raise LeaderboardError(
                f"the final half of season '{self.season}' is scored after {self.closes}",
                fix="score the feedback half",
            )


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommittedItem(_Part):
    """One sealed item: `commitment` is sha256 of a secret salt and the digest of its files."""

    id: Name
    half: Half | None
    kind: Literal["environment", "organism", "seed"]
    commitment: Digest


class Commitment(_Part):
    """commitment.json: published before the season; `root` is the digest of all items together."""

    schema_version: Literal[1] = 1
    kind: Literal["afbench-commitment"] = "afbench-commitment"
    season: Name
    afbench: str
    made: datetime.date
    items: list[CommittedItem] = Field(min_length=1, max_length=10_000)
    root: Digest

    @model_validator(mode="after")
    def _whole(self) -> Commitment:
        if len({item.id for item in self.items}) < len(self.items):
            raise ValueError("an item stands there twice")
        if merkle_root([item.commitment for item in self.items]) != self.root:
            raise ValueError("'root' is not that of the items")
        return self


def commit(salt: str, content: str) -> str:
    """The commitment to a digest: nobody without the salt (64 hex digits) can guess what it is of.

    Hash commitment with a salt of 256 bits: binding and hiding as far as sha256 is.
    """
    return _sha256(b"afbench-item-1\n", bytes.fromhex(salt), content.encode())


def merkle_root(leaves: Sequence[str]) -> str:
    """The root of a Merkle tree over digests in their order (RFC 6962, section 2.1, on digests)."""
    level = [_sha256(b"\x00", leaf.encode()) for leaf in leaves]
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [
            _sha256(b"\x01", *(node.encode() for node in pair)) if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return level[0]


def season_folder(board: Path, name: str) -> Path:
    """The folder of a season.

    Raises:
        UnknownNameError: the leaderboard has no such season.
    """
    folder = board / SEASONS / name
    if not (folder / RULES).is_file():
        known = [path.parent.name for path in (board / SEASONS).glob(f"*/{RULES}")]
        raise UnknownNameError("season", name, known)
    return folder


def read_season(board: Path, name: str) -> Season:
    """The rules of a season.

    Raises:
        UnknownNameError: there is no such season.
        ManifestError: season.yaml is malformed; names the line.
    """
    file = load_yaml(season_folder(board, name) / RULES)
    season = validate(Season, file)
    if season.season != name:
        raise file.error(("season",), f"'{season.season}' is not the folder's name '{name}'")
    return season


def write_season(board: Path, season: Season) -> None:
    """Write season.yaml of a new season.

    Raises:
        StorageError: it could not be written.
    """
    content = season.model_dump(mode="json", by_alias=True)
    path = board / SEASONS / season.season / RULES
    write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())


def new_season(board: Path, name: str, opens: datetime.date, closes: str | None) -> None:
    """Write season.yaml where there is none, with the usual rules.

    Raises:
        LeaderboardError: there is none and no last day was given; there is one with another last
            day; or that is no date.
        StorageError: it could not be written.
    """
    path = board / SEASONS / name / RULES
    if path.is_file():
        # The same command once more goes on where it was.
        if closes is not None and _day(closes) != read_season(board, name).closes:
            raise LeaderboardError("the season has another last day already", where=str(path))
        return
    if closes is None:
        raise LeaderboardError(
            f"season '{name}' is new and has no last day", fix="give --closes YYYY-MM-DD"
        )
    try:
        season = Season(
            season=name,
            summary=f"Season {name}.",
            afbench=__version__,
            opens=opens,
            closes=_day(closes),
        )
    except ValidationError as error:
        raise LeaderboardError(f"no season: {first_problem(error)}", where="--season") from None
    write_season(board, season)


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise LeaderboardError(
            f"'{text[:20]}' is no day", where="--closes", fix="write YYYY-MM-DD"
        ) from None


def read_commitment(board: Path, season: str) -> Commitment:
    """What a season has committed to.

    Raises:
        LeaderboardError: it has no commitment yet.
        AfbenchError: commitment.json is malformed, or of another season.
    """
    path = season_folder(board, season) / COMMITMENT
    if not path.is_file():
        raise LeaderboardError(f"season '{season}' has sealed nothing yet", where=str(path))
    commitment = parse_model(Commitment, read_bytes(path, 4_000_000), str(path))
    if commitment.season != season:
        raise LeaderboardError(f"it is of season '{commitment.season}'", where=str(path))
    return commitment


def write_commitment(board: Path, commitment: Commitment) -> None:
    """Write commitment.json of a season.

    Raises:
        StorageError: it could not be written.
    """
    path = board / SEASONS / commitment.season / COMMITMENT
    write_json(path, commitment.model_dump(mode="json"))


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"
