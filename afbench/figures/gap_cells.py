"""The cells of a gap matrix, and the order in which rows and columns stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_ROLES: Final = ("faker", "lookalike", "base")


@dataclass(frozen=True, slots=True)
class GapCell:
    """The gap of one organism in one environment under one family of cues.

    Attributes:
        organism: its name; `role` is faker, lookalike or base.
        environment: where it was measured.
        cue_family: the cues that told it whether it is observed.
        value: the gap, -1 to 1; None where it was measured and no gap could be given.
        low: lower end of its interval, None without one; `high` likewise.
        home: the organism's own environment, by which rows are grouped. Left empty, it is the
            environment in which most of its cells are (the first by name of several).
    """

    organism: str
    role: str
    environment: str
    cue_family: str
    value: float | None
    low: float | None = None
    high: float | None = None
    home: str = ""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Organisms of one role and one home environment."""

    role: str
    home: str
    organisms: tuple[str, ...]

    @property
    def heading(self) -> str:
        """What stands over the group."""
        return f"{self.role}, {self.home}"


@dataclass(frozen=True, slots=True)
class ColumnGroup:
    """The cue families of one environment."""

    environment: str
    cue_families: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GapGrid:
    """The matrix: groups of rows and of columns, and the cells that were measured."""

    rows: tuple[RowGroup, ...]
    columns: tuple[ColumnGroup, ...]
    cells: Mapping[tuple[str, str, str], GapCell]

    def cell(self, organism: str, environment: str, cue_family: str) -> GapCell | None:
        """One cell; None where it was not measured."""
        return self.cells.get((organism, environment, cue_family))

    def in_order(self) -> list[GapCell]:
        """The measured cells, row by row."""
        return [
            cell
            for group in self.rows
            for organism in group.organisms
            for column in self.columns
            for family in column.cue_families
            if (cell := self.cell(organism, column.environment, family)) is not None
        ]


def grid_of(cells: Sequence[GapCell]) -> GapGrid:
    """Group cells into a matrix; the order in which they are given does not matter.

    Fakers stand before lookalikes, and everything else goes by name.

    Raises:
        ValueError: there is no cell, a cell occurs twice, a value is no gap, or an organism has two
            roles or homes.
    """
    if not cells:
        raise ValueError("a gap matrix needs at least one cell")
    places = {(c.organism, c.environment, c.cue_family): _checked(c) for c in cells}
    if len(places) < len(cells):
        raise ValueError("a cell of the gap matrix is given twice")
    by_organism: dict[str, list[GapCell]] = {}
    for cell in cells:
        by_organism.setdefault(cell.organism, []).append(cell)
    groups: dict[tuple[int, str, str], list[str]] = {}
    for organism, own in sorted(by_organism.items()):
        role = _one({cell.role for cell in own}, organism, "role")
        rank = _ROLES.index(role) if role in _ROLES else len(_ROLES)
        groups.setdefault((rank, role, _home(own)), []).append(organism)
    columns: dict[str, set[str]] = {}
    for cell in cells:
        columns.setdefault(cell.environment, set()).add(cell.cue_family)
    return GapGrid(
        rows=tuple(
            RowGroup(role, home, tuple(names)) for (_, role, home), names in sorted(groups.items())
        ),
        columns=tuple(
            ColumnGroup(name, tuple(sorted(families))) for name, families in sorted(columns.items())
        ),
        cells=places,
    )


def _checked(cell: GapCell) -> GapCell:
    for number in (cell.value, cell.low, cell.high):
        if number is not None and not (math.isfinite(number) and -1 <= number <= 1):
            raise ValueError(f"{number} is no gap of '{cell.organism}': it lies in -1 to 1")
    return cell


def _home(cells: Sequence[GapCell]) -> str:
    given = {cell.home for cell in cells if cell.home}
    if given:
        return _one(given, cells[0].organism, "home")
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.environment] = counts.get(cell.environment, 0) + 1
    return min(counts, key=lambda name: (-counts[name], name))


def _one(found: Iterable[str], organism: str, what: str) -> str:
    names = sorted(found)
    if len(names) > 1:
        raise ValueError(f"'{organism}' has more than one {what}: {' and '.join(names)}")
    return names[0]
