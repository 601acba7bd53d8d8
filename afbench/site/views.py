"""Rows of the tables: what stands in each cell, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from afbench.leaderboard.entry import Entry
from afbench.metrics.comparison import Comparison
from afbench.metrics.figures import Figure
from afbench.results.evaluation import LOOKALIKE_CLASSES, OPEN_DEVIATION
from afbench.results.record import DetectorFigures
from afbench.results.uplift import pareto_front
from afbench.site.content import SeasonEntries, Sweep
from afbench.site.marks import Point, front
from afbench.site.matrices import environment_values
from afbench.site.standing import Place, places

SWEEP: Final = "sweep"
"""The status of figures that the project measured on the public zoo."""

_REFUSABLE: Final = (
    ("TPR@1%", "tpr_at_1"),
    ("TPR@5%", "tpr_at_5"),
    ("AUROC", "auroc"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One result.

    Attributes:
        figures: of the detector.
        place: None for floors, ceilings and what has no AUROC.
        status: SWEEP, or that of an entry.
        entry: of a season, where the row is one.
        environments: AUROC in per cent for each environment, two characters each: "++" is 1, and
            "--" is none.
    """

    figures: DetectorFigures
    place: Place | None
    status: str
    entry: Entry | None = None
    environments: str = ""

    @property
    def name(self) -> str:
        """The detector's."""
        return self.figures.name

    @property
    def kind(self) -> str:
        """`detector`, `floor` or `ceiling`."""
        one = self.figures
        return "ceiling" if one.ceiling else "floor" if one.floor else "detector"

    @property
    def failed(self) -> str | None:
        """`void` or `unavailable`, where there is no figure."""
        return failure(self.figures)

    @property
    def why(self) -> str | None:
        """The reason of that."""
        return self.figures.unavailable or self.figures.error

    @property
    def unreliable(self) -> str | None:
        """Why it is not to be relied on."""
        flag = self.entry.unreliable if self.entry else None
        return flag.reason if flag else None

    @property
    def over(self) -> Comparison | None:
        """Over the best floor."""
        return self.figures.excess_over_floor

    @property
    def worst(self) -> tuple[str, Figure] | None:
        """The lookalikes that it takes for fakers most often."""
        return worst_lookalikes(self.figures)

    @property
    def clear(self) -> bool:
        """Whether a paired test tells it from the best floor, above it."""
        return is_clear(self.figures)


@dataclass(frozen=True, slots=True)
class Glance:
    """What a reader should see first.

    Attributes:
        leader: the detector with the highest AUROC that is reliable.
        leading: names of all that no other clearly beats; empty where nobody has tested.
        floor: the best one.
        clear: how many detectors are clearly above the best floor.
        compared: how many were compared with it.
    """

    leader: Row
    leading: tuple[str, ...]
    floor: Row | None
    clear: int
    compared: int


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the leaderboard, and what belongs to it.

    Attributes:
        rows: detectors and floors, the best first; what is unreliable or failed stands last.
        ceilings: which are not ranked.
        rates: the headings and fields of true-positive rates that any row has.
        refused: by heading, why figures of it are refused.
        picture: cost against score.
        on_front: the rows that no other beats at its cost, the cheapest first.
    """

    rows: tuple[Row, ...]
    ceilings: tuple[Row, ...]
    rates: tuple[tuple[str, str], ...]
    refused: dict[str, str]
    glance: Glance | None
    picture: Markup | None
    on_front: tuple[Row, ...]
    tested: bool
    environments: tuple[str, ...] = ()

    @property
    def tiers(self) -> list[str]:
        """Those in the table."""
        found = {row.figures.tier for row in self.rows}
        return [tier for tier in ("text", "logprobs", "activations", "weights") if tier in found]

    @property
    def ties(self) -> bool:
        """Whether any row is tied with the best floor."""
        return any(row.over is not None and row.over.tied for row in self.rows)

    @property
    def open_deviation(self) -> bool:
        """Whether any false-positive rate is of replies that deviate openly."""
        return any(
            is_open_deviation(figure)
            for row in self.rows
            for figure in row.figures.fpr_by_class.values()
        )


def sweep_table(sweep: Sweep, environments: Sequence[str]) -> Table:
    """The table of one sweep."""
    detectors = sweep.record.detectors
    standing = places(detectors, sweep.curves)
    values = environment_values(sweep, environments)
    rows = [
        Row(one, standing.get(one.name), SWEEP, None, _per_cent(values[one.name]))
        for one in detectors
    ]
    return _table(rows, tuple(environments))


def season_table(season: SeasonEntries, status: str, half: str | None) -> Table:
    """The entries of one status (and half) of a season, with the floors of the best one.

    Entries are of different runs: no paired test compares them, and places are those of the values.
    """
    own = [one for one in season.entries if one.status == status and one.half == half]
    sound = [one.figures for one in own if one.unreliable is None]
    standing = {id(one): place for one, place in _each_place(sound)}
    rows = [Row(one.figures, standing.get(id(one.figures)), one.status, one) for one in own]
    best = max(own, key=lambda one: one.figures.auroc.value or -1.0)
    rows += [Row(floor, None, best.status) for floor in best.floors]
    return _table(rows, ())


def worst_lookalikes(figures: DetectorFigures) -> tuple[str, Figure] | None:
    """The class with the highest false-positive rate; None where no class has one."""
    rates = [
        (name, figures.fpr_by_class[name])
        for name in LOOKALIKE_CLASSES
        if name in figures.fpr_by_class and figures.fpr_by_class[name].value is not None
    ]
    return max(rates, key=lambda rate: rate[1].value or 0.0) if rates else None


def failure(figures: DetectorFigures) -> str | None:
    """Why a detector has no figure, in a word."""
    return "unavailable" if figures.unavailable else "void" if figures.error else None


def is_clear(figures: DetectorFigures) -> bool:
    """Whether a detector is above the best floor in a paired test."""
    over = figures.excess_over_floor
    return over is not None and not over.tied and (over.difference.value or 0.0) > 0


def is_open_deviation(figure: Figure) -> bool:
    """Whether a false-positive rate is of replies that deviate openly."""
    return OPEN_DEVIATION in (figure.note or "")


def _each_place(figures: Sequence[DetectorFigures]) -> list[tuple[DetectorFigures, Place]]:
    """Places by value where one detector may stand there more than once."""
    values = sorted((one.auroc.value for one in figures if one.auroc.value is not None),
                    reverse=True)  # fmt: skip
    found = []
    for one in figures:
        if one.auroc.value is not None:
            at = 1 + values.index(one.auroc.value)
            found.append((one, Place(at, at, False)))
    return found


def _table(rows: Sequence[Row], environments: tuple[str, ...]) -> Table:
    shown = sorted((row for row in rows if row.kind != "ceiling"), key=_order)
    reliable = [row for row in shown if not row.unreliable]
    rates = tuple(
        (label, field)
        for label, field in _REFUSABLE[:2]
        if any(getattr(row.figures, field).value is not None for row in rows)
    )
    # Not `on_front`, which goes by names: in a season a detector may have several entries.
    able = [row for row in reliable if row.figures.auroc.value is not None]
    on = pareto_front([(row.figures.cost.tokens, row.figures.auroc.value or 0.0) for row in able])
    points = [
        Point(row.name, row.figures.floor, row.figures.cost.tokens, row.figures.auroc.value or 0.0,
              yes)
        for row, yes in zip(able, on, strict=True)
    ]  # fmt: skip
    best = sorted(
        (row for row, yes in zip(able, on, strict=True) if yes),
        key=lambda row: (row.figures.cost.tokens, row.name),
    )
    return Table(
        rows=tuple(shown),
        ceilings=tuple(sorted((row for row in rows if row.kind == "ceiling"), key=_order)),
        rates=rates,
        refused=_refusals(shown),
        glance=_glance(reliable),
        picture=front(points, _described(points)) if points else None,
        on_front=tuple(best),
        tested=any(row.place is not None and row.place.tested for row in rows),
        environments=environments,
    )


def _order(row: Row) -> tuple[bool, bool, float, str]:
    value = row.figures.auroc.value
    return row.unreliable is not None, value is None, -(value or 0.0), row.name


def _glance(rows: Sequence[Row]) -> Glance | None:
    detectors = [row for row in rows if row.kind == "detector" and row.figures.auroc.value]
    floors = [row for row in rows if row.kind == "floor" and row.figures.auroc.value]
    if not detectors:
        return None
    return Glance(
        leader=detectors[0],
        leading=tuple(row.name for row in detectors if row.place and row.place.leads),
        floor=floors[0] if floors else None,
        clear=sum(row.clear for row in detectors),
        compared=sum(row.over is not None for row in detectors),
    )


def _refusals(rows: Sequence[Row]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        for label, field in _REFUSABLE:
            figure: Any = getattr(row.figures, field)
            if figure.reason and not row.failed:
                found.setdefault(label, figure.reason)
    return found


def _described(points: Sequence[Point]) -> str:
    named = "; ".join(
        f"{one.name} ({one.tokens} tokens, AUROC {one.value:.2f})"
        for one in sorted(points, key=lambda one: one.tokens)
        if one.front
    )
    return (
        f"AUROC against tokens for {len(points)} detectors, {sum(p.floor for p in points)} of them "
        f"floors. On the front, from the cheapest: {named}."
    )


def _per_cent(values: Sequence[float | None]) -> str:
    # Two characters each: a page may hold hundreds of rows.
    return "".join(
        "--" if value is None else f"{min(99, round(100 * value)):02d}" if value < 1 else "++"
        for value in values
    )
