"""The files of a Poser release: which there are, reading them, and what became of their records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from afbench.catalog.yaml_files import display, read_text
from afbench.errors import AfbenchError, ManifestError
from afbench.importers.poser_records import Item, Origin, Part, Skip, read_record

MAX_BYTES: Final = 200_000_000

LAYOUT: Final = (
    "expected data/benchmark/*.json, and data/training/<policy>/test.json or train-*.json, in the "
    "folder that is named"
)


@dataclass(slots=True)
class Tally:
    """How many were left out for each reason, and the first of them."""

    reasons: dict[str, tuple[int, Origin]] = field(default_factory=dict)

    def add(self, reason: str, origin: Origin) -> None:
        """Count one more; the first one of a reason is kept as its example."""
        count, first = self.reasons.get(reason, (0, origin))
        self.reasons[reason] = count + 1, first

    def merge(self, other: Tally) -> None:
        """Count all that another one counted."""
        for reason, (count, first) in other.reasons.items():
            own, own_first = self.reasons.get(reason, (0, first))
            self.reasons[reason] = own + count, own_first

    def ranked(self) -> list[tuple[str, int, Origin]]:
        """Reason, count and example, the most frequent reason first."""
        rows = [(reason, count, first) for reason, (count, first) in self.reasons.items()]
        return sorted(rows, key=lambda row: -row[1])

    def as_dict(self) -> dict[str, Any]:
        """For JSON: by reason, the most frequent first."""
        return {
            reason: {"count": count, "example": {"file": first.file, "index": first.index}}
            for reason, count, first in self.ranked()
        }


@dataclass(slots=True)
class ReleaseFile:
    """One file, and what became of it.

    Attributes:
        name: relative to the release's folder, with `/`.
        problem: why no record of it was read; None where its list was.
        read: records in its list.
        imported: those of them that became scenarios.
    """

    path: Path
    name: str
    part: Part
    policy: str
    problem: str | None = None
    read: int = 0
    imported: int = 0
    skipped: Tally = field(default_factory=Tally)

    def items(self) -> Iterator[Item]:
        """The records that can be scenarios; what else there is goes to `skipped` or `problem`."""
        if self.problem is not None:
            return
        try:
            records = _read_list(self.path)
        except ManifestError as error:
            self.problem = str(error)
            return
        self.read = len(records)
        for index, record in enumerate(records):
            origin = Origin(self.name, index, self.part, self.policy)
            try:
                yield read_record(record, origin)
            except Skip as skip:
                self.skipped.add(str(skip), origin)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        if self.problem is not None:
            return {"file": self.name, "problem": self.problem}
        return {
            "file": self.name,
            "read": self.read,
            "imported": self.imported,
            "skipped": self.skipped.as_dict(),
        }


def find_files(folder: Path) -> list[ReleaseFile]:
    """The release's files: benchmark first, then training (test.json first), then definitions.

    A link that leads out of the folder is not followed: it is listed with its problem.

    Args:
        folder: the release, or its folder `data`.

    Raises:
        AfbenchError: the folder does not exist, or holds no such file.
    """
    if not folder.is_dir():
        raise AfbenchError(f"{display(folder)} is not a folder", fix=LAYOUT)
    try:
        found = list(_Search(folder).files())
    except OSError as error:
        raise AfbenchError(f"cannot list {display(folder)}: {error.strerror or error}") from None
    if not found:
        raise AfbenchError(f"no Poser release in {display(folder)}", fix=LAYOUT)
    return found


class _Search:
    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        # A user may as well name the folder `data` itself.
        self._data = self._root / "data" if (self._root / "data").is_dir() else self._root
        self._refused: dict[Path, ReleaseFile] = {}

    def files(self) -> Iterator[ReleaseFile]:
        for path in self._within(self._data / "benchmark", "*.json"):
            yield self._file(path, "benchmark", path.stem)
        for pattern in ("test.json", "train-*.json"):
            for folder in self._within(self._data / "training", "*"):
                for path in self._within(folder, pattern):
                    yield self._file(path, "training", folder.name)
        for folder in self._within(self._data / "policy_definitions", "*"):
            for path in self._within(folder, "test.json"):
                yield self._file(path, "definitions", folder.name)
        yield from self._refused.values()

    def _within(self, folder: Path, pattern: str) -> list[Path]:
        if not folder.is_dir():
            return []
        if not self._is_inside(folder):
            self._refused[folder] = self._file(folder, "training", folder.name)
            return []
        return sorted(folder.glob(pattern))

    def _file(self, path: Path, part: Part, policy: str) -> ReleaseFile:
        problem: str | None = None
        if not self._is_inside(path):
            problem = "it is a link that leads out of the folder, or nowhere"
        elif not path.is_file():
            problem = "it is no file"
        name = path.relative_to(self._root).as_posix()
        return ReleaseFile(path, _shown(name), part, _shown(policy), problem)

    def _is_inside(self, path: Path) -> bool:
        try:
            return path.resolve(strict=True).is_relative_to(self._root)
        except (OSError, RuntimeError):
            return False


def _shown(name: str) -> str:
    """A file's name as text that can be written, whatever bytes the system has it in."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read_list(path: Path) -> list[Any]:
    text = read_text(path, MAX_BYTES)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from None
    if not isinstance(data, list):
        raise ManifestError("not a list of records")
    return data
