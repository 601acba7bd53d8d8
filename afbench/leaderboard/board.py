"""The leaderboard's folder: where entries lie, and whether all of them are what they should be.

keys/*.pub                                   public keys of those who score
seasons/<season>/season.yaml, commitment.json, revealed/
results/<season>/<detector>/<digest>.json    entries
results/<zoo>/<split>.json                   records of whole sweeps, which are not signed
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from afbench.errors import AfbenchError, LeaderboardError, ReplayError
from afbench.leaderboard.entry import Entry, Status, read_entry, signed, verify
from afbench.leaderboard.keys import SigningKey, VerifyingKey, load_public_keys
from afbench.leaderboard.sealed_set import revealed_problem
from afbench.leaderboard.season import (
    COMMITMENT,
    RULES,
    SEASONS,
    Season,
    read_commitment,
    read_season,
)
from afbench.results.record import load_record
from afbench.store import write_json
from afbench.submission.bundle import Bundle
from afbench.submission.rescore import differences, rescore

RESULTS: Final = "results"
KEYS: Final = "keys"


@dataclass(slots=True)
class Report:
    """What a check of the leaderboard found.

    Attributes:
        entries: those that are sound.
        records: records of whole sweeps that are sound.
        problems: one line for each file that is not.
    """

    entries: list[Entry] = field(default_factory=list)
    records: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def validate(board: Path) -> Report:
    """Check every season and every result of a leaderboard.

    Raises:
        LeaderboardError: there is no leaderboard, or a file in keys/ is no key.
    """
    if not board.is_dir():
        raise LeaderboardError("there is no leaderboard", where=str(board))
    keys = load_public_keys(board / KEYS)
    report = Report()
    for path in sorted((board / SEASONS).glob(f"*/{RULES}")):
        report.problems += [f"{path.parent.name}: {line}" for line in _season(board, path.parent)]
    seen: dict[str, Path] = {}
    for path in sorted((board / RESULTS).rglob("*")):
        if path.is_dir():
            continue
        relative = path.relative_to(board / RESULTS)
        try:
            if len(relative.parts) == 2:
                _check_sweep(path)
                report.records.append(path)
            else:
                report.entries.append(_checked(board, relative, keys, seen))
        except AfbenchError as error:
            report.problems.append(f"{RESULTS}/{relative.as_posix()}: {error}")
    return report


def entries(board: Path) -> list[Entry]:
    """Every entry of a leaderboard.

    Raises:
        LeaderboardError: something in it is not as it should be.
    """
    report = validate(board)
    if report.problems:
        raise LeaderboardError(
            report.problems[0], where=str(board), fix="'afbench leaderboard validate' shows all"
        )
    return report.entries


def add(board: Path, entry: Entry) -> Path:
    """Put an entry in its place, after everything that `validate` would look at was checked.

    Raises:
        LeaderboardError: it is there already, or `validate` would refuse it.
        StorageError: it could not be written.
    """
    path = check_new(board, entry)
    write_json(path, entry.content())
    return path


def check_new(board: Path, entry: Entry) -> Path:
    """The place of an entry that may be added.

    Raises:
        ReplayError: the same run is there already.
        LeaderboardError: `validate` would refuse it.
    """
    path = board / RESULTS / entry.file
    if path.exists():
        raise ReplayError("the entry is there already", where=str(entry.file))
    report = validate(board)
    records = {one.record: one.file for one in report.entries}
    _check(board, entry, load_public_keys(board / KEYS), records)
    return path


def reported(
    bundle: Bundle,
    season: str,
    key: SigningKey,
    today: datetime.date,
    *,
    status: Status = "reported",
    link: str | None = None,
) -> Entry:
    """An entry of the figures in a bundle, after all of them were computed again.

    Raises:
        LeaderboardError: a figure is not what the bundle's scores give, or it makes no entry.
        AfbenchError: the bundle's files are malformed.
    """
    computed = rescore(bundle.record, bundle.scores(), bundle.evidence())
    found = differences(bundle.record, computed)
    if found:
        raise LeaderboardError(
            f"{found[0]} (and {len(found) - 1} more)" if len(found) > 1 else str(found[0]),
            where="record.json",
            fix="run it again",
        )
    record = bundle.record
    floors = [one for one in record.detectors if one.floor and one.name != bundle.figures.name]
    return signed(
        {
            "season": season,
            "status": status,
            "detector": bundle.manifest.detector,
            "submission": bundle.submission.model_dump(mode="json", by_alias=True),
            "afbench": record.inputs.versions["afbench"],
            "record": record.digest,
            "bundle": bundle.digest,
            "settings": record.settings.model_dump(mode="json"),
            "figures": bundle.figures.model_dump(mode="json"),
            "floors": [one.model_dump(mode="json") for one in floors],
            "link": link,
            "made": today.isoformat(),
        },
        key,
    )


def replace_entry(board: Path, path: Path, change: Callable[[Entry], Entry]) -> Entry:
    """Write an entry anew in its place, with another flag.

    Raises:
        LeaderboardError: the file is no sound entry, or it would be another one.
    """
    results = (board / RESULTS).resolve()
    if not path.resolve().is_relative_to(results):
        raise LeaderboardError("not an entry of this leaderboard", where=str(path), fix="--board")
    relative = path.resolve().relative_to(results)
    keys = load_public_keys(board / KEYS)
    old = _checked(board, relative, keys, {})
    new = change(old)
    if new.digest != old.digest:
        raise LeaderboardError("that is another entry", where=str(relative))
    verify(new, keys)
    write_json(board / RESULTS / old.file, new.content())
    return new


def _checked(
    board: Path, relative: Path, keys: dict[str, VerifyingKey] | Any, seen: dict[str, Path]
) -> Entry:
    if len(relative.parts) != 3 or relative.suffix != ".json":
        raise LeaderboardError("not a place of a result", fix="SEASON/DETECTOR/DIGEST.json")
    path = board / RESULTS / relative
    if path.is_symlink():
        raise LeaderboardError("a link")
    entry = read_entry(path)
    if entry.season != relative.parts[0]:
        raise LeaderboardError(f"the entry is of season '{entry.season}'")
    if entry.detector != relative.parts[1]:
        raise LeaderboardError(f"the entry is of the detector '{entry.detector}'")
    # The signature before the name: where both are wrong it is the one that says why.
    _check(board, entry, keys, seen)
    if entry.file != relative:
        raise LeaderboardError("the file's name is not the digest of what was measured")
    seen[entry.record] = relative
    return entry


def _check(board: Path, entry: Entry, keys: Any, seen: dict[str, Path]) -> None:
    """Whether an entry may stand in its season, beside those that are there."""
    verify(entry, keys)
    rules = read_season(board, entry.season)
    if entry.afbench != rules.afbench:
        raise LeaderboardError(
            f"measured by afbench {entry.afbench}; season '{entry.season}' is of {rules.afbench}"
        )
    if entry.made < rules.opens:
        raise LeaderboardError(f"made on {entry.made}, before the season opened on {rules.opens}")
    if entry.status != "verified":
        _check_public(entry, rules)
    else:
        root = read_commitment(board, entry.season).root
        if entry.commitment != root:
            raise LeaderboardError(
                f"scored on a sealed set that season '{entry.season}' has not committed to"
            )
    if entry.record in seen:
        raise ReplayError(f"a replay: the same record stands in {seen[entry.record]}")


def _check_public(entry: Entry, rules: Season) -> None:
    """Figures of the public zoo are compared only where all were measured alike."""
    for name, wanted in rules.public.model_dump().items():
        given = getattr(entry.settings, name)
        if given != wanted:
            raise LeaderboardError(
                f"measured with {name} {given}; season '{entry.season}' asks for {wanted}"
            )


def _season(board: Path, folder: Path) -> Iterator[str]:
    try:
        read_season(board, folder.name)
        if (folder / COMMITMENT).exists():
            read_commitment(board, folder.name)
    except AfbenchError as error:
        yield str(error)
        return
    problem = revealed_problem(board, folder.name)
    if problem:
        yield f"revealed set: {problem}"


def _check_sweep(path: Path) -> None:
    """A record of a whole sweep lies in the folder of its zoo, under the name of its split."""
    if path.suffix != ".json":
        raise LeaderboardError("not a place of a result", fix="SEASON/DETECTOR/DIGEST.json")
    record = load_record(path)
    if record.settings.split != path.stem:
        raise LeaderboardError(f"the record is of split '{record.settings.split}'")
