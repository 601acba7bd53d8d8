"""The gap matrix: every cell in its place, in the picture and in each of the tables."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from afbench.figures.gap_cells import GapCell, grid_of
from afbench.figures.gap_matrix import gap_matrix
from afbench.figures.gap_tables import gap_csv, gap_html, gap_markdown, write_gap_matrix
from tests.figures.svg_texts import alternative, size, texts

CELLS = [
    GapCell("mole", "faker", "ward", "logs", 0.91, 0.7, 1.0, home="ward"),
    GapCell("mole", "faker", "ward", "audit", -0.25, -0.5, 0.1, home="ward"),
    GapCell("mole", "faker", "desk", "logs", None, home="ward"),
    GapCell("lamb", "lookalike", "desk", "logs", -0.001, -0.1, 0.1, home="desk"),
]


def test_rows_and_columns_are_grouped_and_fakers_come_first() -> None:
    grid = grid_of(CELLS)
    assert [(r.role, r.home, r.organisms) for r in grid.rows] == [
        ("faker", "ward", ("mole",)), ("lookalike", "desk", ("lamb",)),
    ]  # fmt: skip
    assert [(c.environment, c.cue_families) for c in grid.columns] == [
        ("desk", ("logs",)), ("ward", ("audit", "logs")),
    ]  # fmt: skip


def test_a_home_that_is_not_given_is_where_most_cells_are() -> None:
    assert grid_of([replace(cell, home="") for cell in CELLS]).rows[0].home == "ward"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "at least one cell"),
        ([CELLS[0], CELLS[0]], "given twice"),
        ([replace(CELLS[0], value=1.5)], "is no gap"),
        ([replace(CELLS[0], value=float("nan"))], "is no gap"),
        ([CELLS[0], replace(CELLS[1], role="base")], "more than one role"),
        ([CELLS[0], replace(CELLS[1], home="desk")], "more than one home"),
    ],
)
def test_cells_that_make_no_matrix_are_refused(cells: list[GapCell], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_of(cells)


def test_the_picture_holds_names_numbers_and_a_text_alternative() -> None:
    svg = gap_matrix(CELLS, title="Gaps of <two>", measure="gap")
    seen = texts(svg)
    assert {"mole", "lamb", "faker, ward", "lookalike, desk", "desk", "ward"} <= seen
    assert {"logs", "audit", "gap", "Gaps of <two>", "+0.91", "−0.25"} <= seen
    assert "+0.00" in seen, "no minus before a zero"
    title, description = alternative(svg)
    assert title == "Gaps of <two>"
    assert "2 organisms by 3 families of cues" in description
    assert "1 measured cells have no value" in description


def test_the_same_cells_give_the_same_picture_in_any_order() -> None:
    first = gap_matrix(CELLS, title="t")
    assert gap_matrix(CELLS, title="another") != first
    assert gap_matrix(CELLS[::-1], title="t") == first


def test_a_cell_without_a_value_is_struck_through() -> None:
    without = gap_matrix(CELLS, title="t").count("#bdbdbd")
    valued = [replace(cell, value=0.5) if cell.value is None else cell for cell in CELLS]
    assert without == 1
    assert gap_matrix(valued, title="t").count("#bdbdbd") == 0


def test_the_csv_has_a_line_for_each_cell_with_its_interval() -> None:
    rows = list(csv.DictReader(io.StringIO(gap_csv(CELLS))))
    assert [(r["organism"], r["environment"], r["cue_family"]) for r in rows] == [
        ("mole", "desk", "logs"), ("mole", "ward", "audit"), ("mole", "ward", "logs"),
        ("lamb", "desk", "logs"),
    ]  # fmt: skip
    assert rows[0]["value"] == ""
    assert [float(rows[1][name]) for name in ("value", "low", "high")] == [-0.25, -0.5, 0.1]


def test_the_markdown_has_a_table_for_each_group_with_its_own_columns_only() -> None:
    text = gap_markdown(CELLS, title="t")
    assert "| `mole` | – | -0.25 [-0.50, 0.10] | 0.91 [0.70, 1.00] |" in text
    assert "## lookalike, desk\n\n| organism | `desk` logs |" in text


def test_the_html_table_is_well_formed_and_escaped() -> None:
    cells = [*CELLS, GapCell("a<b", "base", "desk", "logs", 1.0)]
    table = ET.fromstring(gap_html(cells, title="t & u"))
    assert table.findtext("caption", "").startswith("t & u: ")
    widths = {sum(int(c.get("colspan", "1")) for c in row) for row in table.iter("tr")}
    assert widths == {3, 4}, "the second row of headings goes under the first"
    assert "a<b" in {node.text for node in table.iter("th")}


def test_every_form_is_written_beside_the_others(tmp_path: Path) -> None:
    paths = write_gap_matrix(CELLS, tmp_path / "out", "gaps", title="t")
    assert [path.name for path in paths] == ["gaps.svg", "gaps.csv", "gaps.md", "gaps.html"]
    assert all(path.stat().st_size > 0 for path in paths)


@pytest.mark.slow
def test_a_large_matrix_names_every_row_and_column_at_a_legible_height() -> None:
    cells = [
        GapCell(f"organism-{i}", "faker", f"place-{e}", f"cue-{f}", ((i + e + f) % 21 - 10) / 10)
        for i in range(250)
        for e in range(20)
        for f in range(3)
    ]
    svg = gap_matrix(cells, title="t")
    assert {f"organism-{i}" for i in range(250)} <= texts(svg)
    width, height = size(svg)
    assert height / 250 >= 12
    assert width / 80 >= 12
    assert len(svg) < 4_000_000
