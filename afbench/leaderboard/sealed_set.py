"""A season's sealed set: folders of plug-ins outside of every checkout, and what they are."""

from __future__ import annotations

import datetime
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from afbench.catalog.fields import Name
from afbench.errors import AfbenchError, LeaderboardError, StorageError
from afbench.leaderboard.entry import Half
from afbench.leaderboard.season import (
    HALVES,
    Commitment,
    CommittedItem,
    commit,
    merkle_root,
    read_commitment,
    read_season,
    season_folder,
)
from afbench.results.json_file import parse_model, read_bytes
from afbench.store import digest_of, write_json

SEALED: Final = "sealed.json"
REVEALED: Final = "revealed"
SEED: Final = "seed.hex"
KINDS: Final[tuple[Literal["environment"], Literal["organism"]]] = ("environment", "organism")

Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cell(_Part):
    """Sealed organisms of one recipe family in one sealed environment.

    `origin` is the public environment that it was made like.
    """

    half: Half
    environment: Name
    origin: Name
    family: Name
    organisms: list[Name]


class SealedItem(_Part):
    """One committed item and its salt; `path` is its folder, None for the seed."""

    id: Name
    half: Half | None
    kind: Literal["environment", "organism", "seed"]
    path: str | None
    salt: Salt


class SealedSet(_Part):
    """sealed.json: what was sealed, with the salts. `seed` is the digest of the season's seed."""

    schema_version: Literal[1] = 1
    kind: Literal["afbench-sealed"] = "afbench-sealed"
    season: Name
    afbench: str
    made: datetime.date
    cells: list[Cell]
    items: list[SealedItem]
    seed: str

    def of_half(self, half: Half) -> list[Cell]:
        """The cells of one half."""
        return [cell for cell in self.cells if cell.half == half]


def read_sealed(folder: Path) -> SealedSet:
    """What a sealed folder holds; its files are not looked at.

    Raises:
        AfbenchError: it is none, or sealed.json is malformed.
    """
    path = folder / SEALED
    if not path.is_file():
        raise LeaderboardError(
            "no sealed set", where=str(folder), fix="'afbench leaderboard seal' makes one"
        )
    return parse_model(SealedSet, read_bytes(path, 16_000_000), str(path))


def committed(folder: Path, sealed: SealedSet) -> Commitment:
    """The commitment to a sealed set, from its files as they are.

    Raises:
        LeaderboardError: a file is missing or cannot be read.
    """
    items = [
        CommittedItem(
            id=item.id,
            half=item.half,
            kind=item.kind,
            commitment=commit(item.salt, _content(folder, item, sealed)),
        )
        for item in sealed.items
    ]
    return Commitment(
        season=sealed.season,
        afbench=sealed.afbench,
        made=sealed.made,
        items=items,
        root=merkle_root([item.commitment for item in items]),
    )


def check_sealed(board: Path, folder: Path, season: str) -> tuple[SealedSet, Commitment]:
    """A sealed set that is the one that its season has committed to.

    Raises:
        LeaderboardError: it is of another season, or an item is not what was committed to.
        AfbenchError: as `read_sealed` and `read_commitment`.
    """
    published, sealed = read_commitment(board, season), read_sealed(folder)
    if sealed.season != season:
        raise LeaderboardError(
            f"the sealed set is of season '{sealed.season}', not '{season}'", where=str(folder)
        )
    found = {item.id: item for item in committed(folder, sealed).items}
    for item in published.items:
        if found.get(item.id) != item:
            raise LeaderboardError(
                f"'{item.id}' is not what season '{season}' has committed to", where=str(folder)
            )
    if len(found) > len(published.items):
        raise LeaderboardError(
            f"it holds items that season '{season}' has not committed to", where=str(folder)
        )
    return sealed, published


def reveal(
    board: Path, folder: Path, season: str, today: datetime.date, seed: bytes | None = None
) -> Path:
    """Publish a season's sealed set: its folders and salts, after both were checked.

    Args:
        seed: the season's secret; with it anybody can draw the same set again. None keeps it.

    Returns:
        The folder that anybody can check with `check_sealed`, and use as plug-ins.

    Raises:
        LeaderboardError: the season is still open, it was revealed already, or the set is not
            what was committed to.
        StorageError: it could not be written.
    """
    rules = read_season(board, season)
    if today <= rules.closes:
        raise LeaderboardError(
            f"season '{season}' is open until {rules.closes}", fix="reveal it after that"
        )
    target = season_folder(board, season) / REVEALED
    if target.exists():
        raise LeaderboardError(f"season '{season}' was revealed already", where=str(target))
    sealed, _ = check_sealed(board, folder, season)
    if seed is not None and f"sha256:{hashlib.sha256(seed).hexdigest()}" != sealed.seed:
        raise LeaderboardError("the seed is not the one that was committed to")
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".revealed."))
    try:
        for item in sealed.items:
            if item.path is not None:
                shutil.copytree(folder / item.path, temporary / item.path)
        write_json(temporary / SEALED, sealed.model_dump(mode="json"))
        if seed is not None:
            (temporary / SEED).write_text(f"{seed.hex()}\n")
        temporary.chmod(0o755)
        check_sealed(board, temporary, season)
        temporary.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write: {error}", where=str(target)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def content_digest(folder: Path) -> str:
    """The digest of every file of a plug-in's folder, by its path.

    Raises:
        LeaderboardError: the folder is missing, empty, or holds what is no plain file.
    """
    digests = {}
    try:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if "__pycache__" in relative.parts:
                continue
            if path.is_symlink():
                raise LeaderboardError("a sealed set holds no links", where=str(path))
            if path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digests[relative.as_posix()] = content
    except OSError as error:
        raise LeaderboardError(f"cannot read: {error.strerror}", where=str(folder)) from None
    if not digests:
        raise LeaderboardError("the folder is missing or empty", where=str(folder))
    return digest_of(digests)


def revealed_problem(board: Path, season: str) -> str | None:
    """What is wrong with a season's revealed set; None if nothing is, or it has none."""
    folder = board / "seasons" / season / REVEALED
    if not folder.exists():
        return None
    try:
        check_sealed(board, folder, season)
    except AfbenchError as error:
        return str(error)
    return None


def _content(folder: Path, item: SealedItem, sealed: SealedSet) -> str:
    if item.path is None:
        return sealed.seed
    place = Path(item.path)
    if ".." in place.parts or place.parts[:1] not in [(half,) for half in HALVES]:
        raise LeaderboardError(f"'{item.path}' is no place in a sealed set", where=SEALED)
    return content_digest(folder / place)
