"""The report of several splits: what is ranked, what is not, and what is written by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from afbench.metrics.comparison import Comparison
from afbench.metrics.figures import Figure
from afbench.results.evaluation import LOOKALIKE_CLASSES
from afbench.results.record import BehaviourReading, Cost, DetectorFigures, ResultRecord
from afbench.results.sweep_report import BEGIN, END, report_csv, report_markdown, write_report
from afbench.results.table import print_record
from tests.results.test_record import record


def figure(value: float) -> Figure:
    return Figure(value=value, low=max(0.0, value - 0.1), high=min(1.0, value + 0.1), n=200)


def row(name: str, auroc: float | None, tokens: int, **further: Any) -> DetectorFigures:
    given = record().detectors[0].model_dump() | {
        "name": name, "tier": "activations",
        "auroc": Figure.refused("unavailable") if auroc is None else figure(auroc),
        "fpr_by_class": {name: figure(0.05) for name in LOOKALIKE_CLASSES},
        "cost": Cost(queries=1, generated_tokens=0, forward_tokens=tokens, fits=1),
    }  # fmt: skip
    return DetectorFigures.model_validate(given | further)


def against(rival: str, value: float) -> Comparison:
    return Comparison(rival=rival, difference=figure(value), p_value=0.01, tied=False)


READING = BehaviourReading(
    verdict="beyond-behaviour", detector=figure(0.9), reader=figure(0.6),
    difference=against("", 0.3), inputs="observed transcripts",
)  # fmt: skip
ROWS = [
    row("middling", 0.7, 1_000),
    row("best", 0.9, 5_000, behaviour_reading=READING, uplift_over_black_box=against("talks", 0.2),
        uplift_at_equal_budget=against("talks", 0.2), excess_over_floor=against("words", 0.3)),
    row("talks", 0.7, 4_000, tier="logprobs"),
    row("words", 0.6, 0, floor=True, tier="text"),
    row("top", 1.0, 10, ceiling=True, tier="text"),
    row("judged", None, 0, unavailable="there is no judge", fpr_by_class={}),
]  # fmt: skip


def of_split(split: str) -> ResultRecord:
    one = record()
    settings = one.settings.model_copy(update={"split": split})
    versions = one.inputs.model_copy(update={"versions": {"afbench": "0"}})
    return one.model_copy(
        update={"detectors": ROWS, "settings": settings, "inputs": versions}
    ).with_digest()


RECORDS = {split: of_split(split) for split in ("recipe", "cue")}


def test_detectors_come_by_score_then_floors_and_ceilings_stand_apart() -> None:
    text = report_markdown(RECORDS, "recipe")
    ranking, _, rest = text.partition("### Ceilings")
    places = [
        ranking.index(f"`{name}`") for name in ("best", "middling", "talks", "judged", "words")
    ]
    assert places == sorted(places)
    assert "`top`" not in ranking
    ceilings, _, rest = rest.partition("## Split recipe")
    assert "| `top` | text | 1.00 [0.90, 1.00] | 1.00 [0.90, 1.00] |" in ceilings
    assert "`top`" not in rest, "neither false positives nor a place on the front"


def test_uplift_and_verdict_and_front_are_in_the_report() -> None:
    text = report_markdown(RECORDS, "recipe")
    assert (
        "| `best` | `talks` | 0.20 [0.10, 0.30] | 0.20 [0.10, 0.30] | 0.60 [0.50, 0.70] | " in text
    )
    assert "| beyond-behaviour |" in text
    front = text.partition("## Cost and score")[2].partition("##")[0]
    assert [name for name in ("words", "middling", "talks", "best") if f"`{name}`" in front] == [
        "words", "middling", "best",
    ]  # fmt: skip
    assert "- `judged`, unavailable: there is no judge (recipe, cue)" in text


def test_the_csv_has_a_line_for_each_detector_and_split() -> None:
    rows = list(csv.DictReader(io.StringIO(report_csv(RECORDS))))
    assert len(rows) == 2 * len(ROWS)
    by_name = {one["detector"]: one for one in rows if one["split"] == "recipe"}
    assert (by_name["top"]["kind"], by_name["top"]["on_front"]) == ("ceiling", "")
    assert (by_name["judged"]["status"], by_name["judged"]["auroc"]) == ("unavailable", "")
    assert (by_name["best"]["verdict"], by_name["best"]["over_reader"]) == (
        "beyond-behaviour", "0.3",
    )  # fmt: skip
    assert by_name["words"]["on_front"] == "yes" and by_name["talks"]["on_front"] == "no"


def test_what_is_written_by_hand_around_the_tables_stays(tmp_path: Path) -> None:
    readme, table, picture = write_report(RECORDS, tmp_path)
    assert (readme.name, table.name, picture.name) == ("README.md", "table.csv", "pareto.svg")
    first = readme.read_text("utf-8")
    readme.write_text(first.replace(BEGIN, f"What it says.\n\n{BEGIN}") + "\nMore.\n", "utf-8")
    write_report({"recipe": RECORDS["recipe"]}, tmp_path)
    text = readme.read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index("What it says.") < text.index(BEGIN) < text.index(END) < text.index("More.")
    assert "| cue |" not in text
    with pytest.raises(ValueError, match="no record"):
        write_report({}, tmp_path)


def test_a_terminal_shows_ceilings_apart_and_says_why_one_is_unavailable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_record(RECORDS["recipe"])
    out = capsys.readouterr().out
    ranked, _, rest = out.partition("Ceilings:")
    assert "top" not in ranked and "top" in rest
    assert "unavailable: judged: there is no judge" in out
    assert "beyond-behaviour" in out
