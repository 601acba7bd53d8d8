"""The gap matrix as tables: CSV for machines, Markdown and HTML for readers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from afbench.figures.gap_cells import GapCell, GapGrid, RowGroup, grid_of
from afbench.figures.gap_matrix import COLOURS, MEASURE, gap_matrix
from afbench.store import write_bytes

_NONE: Final = "–"


def write_gap_matrix(
    cells: Sequence[GapCell], folder: Path, name: str, *, title: str, measure: str = MEASURE
) -> list[Path]:
    """Write the matrix as `name`.svg, .csv, .md and .html into a folder.

    Returns:
        The files, in that order.

    Raises:
        ValueError: as `grid_of`.
        StorageError: a file could not be written.
    """
    contents = {
        ".svg": gap_matrix(cells, title=title, measure=measure),
        ".csv": gap_csv(cells),
        ".md": gap_markdown(cells, title=title, measure=measure),
        ".html": gap_html(cells, title=title, measure=measure),
    }
    paths = []
    for suffix, text in contents.items():
        paths.append(folder / f"{name}{suffix}")
        write_bytes(paths[-1], text.encode())
    return paths


def gap_csv(cells: Sequence[GapCell]) -> str:
    """One line for each measured cell, in the matrix's order, with its interval.

    An empty value is one that could not be given.
    """
    grid = grid_of(cells)
    homes = {name: group.home for group in grid.rows for name in group.organisms}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["organism", "role", "home", "environment", "cue_family", "value", "low", "high"]
    )
    for cell in grid.in_order():
        numbers = [
            "" if number is None else f"{number:.6g}"
            for number in (cell.value, cell.low, cell.high)
        ]
        place = [cell.organism, cell.role, homes[cell.organism], cell.environment, cell.cue_family]
        writer.writerow([*place, *numbers])
    return out.getvalue()


def gap_markdown(cells: Sequence[GapCell], *, title: str, measure: str = MEASURE) -> str:
    """A table for each group of organisms, with the columns in which it was measured."""
    grid = grid_of(cells)
    lines = [f"# {title}", "", f"The {measure}, with 95% intervals; {_NONE}: no value.", ""]
    for group in grid.rows:
        columns = _columns_of(grid, group)
        lines += [f"## {group.heading}", "", "| organism | " + " | ".join(map(_md, columns)) + " |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        for organism in group.organisms:
            shown = [_interval(grid.cell(organism, *column)) for column in columns]
            lines.append(f"| `{organism}` | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def gap_html(cells: Sequence[GapCell], *, title: str, measure: str = MEASURE) -> str:
    """The whole matrix as one HTML table, for a page; cells are coloured as in the picture."""
    grid = grid_of(cells)
    width = 1 + sum(len(column.cue_families) for column in grid.columns)
    lines = [
        '<table class="gap-matrix">',
        f"<caption>{escape(title)}: the {escape(measure)}. {_NONE}: no value; "
        "empty: not measured.</caption>",
        '<thead><tr><th scope="col" rowspan="2">organism</th>'
        + "".join(
            f'<th scope="colgroup" colspan="{len(column.cue_families)}">'
            f"{escape(column.environment)}</th>"
            for column in grid.columns
        )
        + "</tr>",
        "<tr>"
        + "".join(
            f'<th scope="col">{escape(family)}</th>'
            for column in grid.columns
            for family in column.cue_families
        )
        + "</tr></thead>",
    ]
    for group in grid.rows:
        lines.append(
            f'<tbody><tr><th scope="rowgroup" colspan="{width}">{escape(group.heading)}</th></tr>'
        )
        lines += [_html_row(grid, organism) for organism in group.organisms]
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"]) + "\n"


def _html_row(grid: GapGrid, organism: str) -> str:
    cells = [
        _html_cell(grid.cell(organism, column.environment, family))
        for column in grid.columns
        for family in column.cue_families
    ]
    return f'<tr><th scope="row">{escape(organism)}</th>{"".join(cells)}</tr>'


def _html_cell(cell: GapCell | None) -> str:
    if cell is None:
        return "<td></td>"
    if cell.value is None:
        return f"<td>{_NONE}</td>"
    # Dark text in every cell, so that the table can be read whatever the page's own colour is.
    style = f"background:{_tint(cell.value)};color:#111"
    return f'<td style="{style}" title="{_interval(cell)}">{_number(cell.value)}</td>'


def _tint(value: float) -> str:
    """A lighter mix of the picture's colours, on which dark text can be read."""
    end, middle = COLOURS[2 if value > 0 else 0], COLOURS[1]
    share = 0.6 * min(1.0, abs(value))
    mixed = (
        round(int(middle[i : i + 2], 16) * (1 - share) + int(end[i : i + 2], 16) * share)
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _columns_of(grid: GapGrid, group: RowGroup) -> list[tuple[str, str]]:
    """The columns in which some organism of a group was measured."""
    return [
        (column.environment, family)
        for column in grid.columns
        for family in column.cue_families
        if any(grid.cell(name, column.environment, family) for name in group.organisms)
    ]


def _md(column: tuple[str, str]) -> str:
    return f"`{column[0]}` {column[1]}"


def _interval(cell: GapCell | None) -> str:
    """A value with its interval; a dash where there is none, nothing where nobody measured."""
    if cell is None:
        return ""
    if cell.value is None:
        return _NONE
    if cell.low is None or cell.high is None:
        return _number(cell.value)
    return f"{_number(cell.value)} [{_number(cell.low)}, {_number(cell.high)}]"


def _number(value: float) -> str:
    # Adding 0.0 turns the "-0.00" of a small negative number into "0.00".
    return f"{round(value, 2) + 0.0:.2f}"
