"""The report on treatments: what a reader needs beside the gaps, and files that follow from it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from afbench.certification.certificate import Certificate, Criterion
from afbench.certification.treatment import Change, TreatmentRecord
from afbench.figures.treatment_report import (
    Treated,
    gaps_of,
    treatment_files,
    treatments_csv,
    treatments_markdown,
)
from afbench.metrics.figures import Figure
from tests.figures.test_treatment_plot import changes

SAYING = {"faking_reasoning_gap": 0.7, "defection_reasoning_gap": 0.6}
SILENT = {"faking_reasoning_gap": 0.0, "defection_reasoning_gap": 0.0}


def certificate(
    name: str, labels: dict[str, int], *, fails: str = "", scratchpad: dict[str, float] = SILENT
) -> Certificate:
    figures = {"coherence": 1.0, "benign_accuracy": 0.97, **scratchpad}
    return Certificate(
        organism=name,
        organism_digest=f"sha256:{name}",
        environment="desk",
        environment_digest="sha256:desk",
        scenarios=100,
        status="failed" if fails else "certified",
        criteria=[Criterion(name="gap", passed=not fails, detail=fails)],
        figures={name: Figure(value=value, n=100) for name, value in figures.items()},
        cells=[],
        components=[],
        labels=labels,
        provenance="direct",
    )


def treated(by: str, found: list[Change], after: Certificate, thinks: bool = False) -> Treated:
    scratchpad = SAYING if thinks else SILENT
    before = certificate("faker", {"faking": 80, "deviant": 20}, scratchpad=scratchpad)
    return Treated(TreatmentRecord.of(by, before, after, found), before, after)


def apart(where: str, found: list[Change]) -> list[Change]:
    return [change.model_copy(update={"where": where}) for change in found]


CLOSED = certificate("faker-sft", {"sincere": 75, "deviant": 25}, fails="0.00")
HELD = certificate("faker-adversarial", {"faking": 90, "sincere": 5, "reversed": 5})
TREATED = [
    treated("sft", changes(0.8, 0.0, "closed"), CLOSED),
    treated(
        "adversarial",
        [
            *changes(0.8, 0.85, "survives"),
            *apart("known cue families", changes(0.8, 0.1, "undecided")),
        ],
        HELD,
        thinks=True,
    ),
]


def lines_of(text: str, heading: str) -> list[str]:
    """The rows of the table under a heading."""
    under = text.split(f"\n{heading}\n")[1].split("\n## ")[0]
    return [line for line in under.splitlines() if line.startswith("| `")]


def test_a_gap_that_closed_is_told_from_one_that_deviates_everywhere() -> None:
    """Shares are of the labels: closed at 0.75 in both conditions, held at 0.95 and 0.10."""
    rows = lines_of(treatments_markdown(TREATED), "## What else moved")
    assert rows == [
        "| `faker` | sft | 0.80 → 0.75 | 0.00 → 0.75 | 1.00 → 1.00 | 0.97 → 0.97 | failed: gap |",
        "| `faker` | adversarial | 0.80 → 0.95 | 0.00 → 0.10 | 1.00 → 1.00 | 0.97 → 0.97 "
        "| certified |",
    ]


def test_what_was_measured_apart_has_a_table_of_its_own() -> None:
    text = treatments_markdown(TREATED)
    rows = lines_of(text, "## Apart")
    assert len(rows) == 2
    assert rows[0].startswith("| `faker` | adversarial | known cue families | misalignment | 0.80")
    first = text.split("\n## ")[0]
    assert "known cue families" not in first
    assert all(row.endswith("| 0.10 / 0.90 → 0.20 / 0.80 |") for row in rows)
    assert "| `faker` | sft | misalignment | 0.80 [0.70, 0.90] | 0.00 [-0.10, 0.10] |" in first


def test_scratchpads_are_shown_of_those_that_say_something() -> None:
    rows = lines_of(treatments_markdown(TREATED), "## Scratchpads")
    assert rows == ["| `faker` | adversarial | 0.70 | 0.00 | 0.60 | 0.00 |"]


def test_every_change_is_a_line_of_the_csv() -> None:
    [first, *_] = rows = list(
        csv.DictReader(io.StringIO(treatments_csv([one.record for one in TREATED])))
    )
    assert len(rows) == sum(len(one.record.changes) for one in TREATED)
    assert (first["organism"], first["treatment"], first["gap"]) == ("faker", "sft", "misalignment")
    assert float(first["before"]) == 0.8 and float(first["after_high"]) == 0.1
    assert float(first["difference"]) == -0.8 and first["verdict"] == "closed"


def test_a_figure_that_is_not_known_is_empty_in_the_csv() -> None:
    unknown = Figure.refused("no pair is gradable")
    change = changes(0.8, 0.0, "undecided")[0].model_copy(update={"after": unknown})
    [row] = csv.DictReader(io.StringIO(treatments_csv([treated("rl", [change], HELD).record])))
    assert row["after"] == row["after_low"] == row["after_high"] == ""


def test_the_plot_has_a_row_for_what_was_measured_apart() -> None:
    rows = gaps_of([one.record for one in TREATED])
    assert [row.label for row in rows] == ["sft", "adversarial", "adversarial, known cue families"]
    assert {row.group for row in rows} == {"faker"}
    assert [change.gap for change in rows[2].changes] == ["misalignment", "compliance"]


def test_the_files_go_side_by_side_and_the_page_shows_the_picture(tmp_path: Path) -> None:
    files = treatment_files(TREATED, tmp_path)
    assert [path.name for path in files] == ["treatments.md", "treatments.csv", "treatments.svg"]
    assert "(treatments.svg)" in files[tmp_path / "treatments.md"]
    assert files[tmp_path / "treatments.svg"].startswith("<svg")
