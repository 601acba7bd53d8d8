"""The record: its schema, its digest, and what happens to one that was altered."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from afbench.errors import AfbenchError
from afbench.metrics.figures import Figure
from afbench.results.record import (
    CacheUse,
    Cost,
    DetectorFigures,
    Inputs,
    ResultRecord,
    RunSettings,
    Spending,
    Timings,
    load_record,
    record_schema,
)
from afbench.results.table import print_record


def record(seconds: float = 1.0, auroc: float = 0.75) -> ResultRecord:
    figure = Figure(value=auroc, low=auroc - 0.1, high=auroc + 0.1, n=100, clusters=4)
    refused = Figure.refused("too few")
    detector = DetectorFigures(
        name="probe", tier="activations", floor=False, auroc=figure, tpr_at_1=refused,
        tpr_at_5=figure, pair_accuracy=figure, fpr_by_class={}, brier=figure,
        residual_misalignment_gap_at_1=figure, residual_misalignment_gap_at_5=figure,
        residual_compliance_gap_at_1=figure,
        residual_compliance_gap_at_5=figure, residual_conformity_gap_at_1=figure,
        residual_conformity_gap_at_5=figure, gap_recovery=refused,
        cost=Cost(queries=1, generated_tokens=0, forward_tokens=10, fits=1),
    )  # fmt: skip
    return ResultRecord(
        id="0123456789abcdef", digest="", created="2026-01-01T00:00:00+00:00",
        settings=RunSettings(
            detectors=["probe"], organism="x", split="recipe", fit_scenarios=1, test_scenarios=1
        ),
        inputs=Inputs(organisms={}, environments={}, detectors={}, certificates={}, versions={}),
        folds={}, organisms=[], detectors=[detector], scores="scores.json",
        timings=Timings(rollouts=seconds, detectors={}, total=seconds),
        cache=CacheUse(hits=0, misses=0, computed_forward_tokens=0),
    ).with_digest()  # fmt: skip


def test_the_digest_does_not_depend_on_timings() -> None:
    assert record(1.0).digest == record(99.0).digest


def test_the_digest_depends_on_every_figure() -> None:
    assert record(auroc=0.75).digest != record(auroc=0.76).digest


def test_a_saved_record_follows_the_exported_schema_and_reads_back(tmp_path: Path) -> None:
    path = record().save(tmp_path)
    jsonschema.validate(json.loads(path.read_text()), record_schema())
    assert load_record(path) == record()


def test_the_schema_in_the_repository_is_the_exported_one() -> None:
    path = Path(__file__).parents[2] / "leaderboard/result.schema.json"
    assert json.loads(path.read_text()) == record_schema(), f"run: afbench schema > {path}"


def test_what_a_run_spent_is_kept_beside_its_figures(tmp_path: Path) -> None:
    spending = Spending(
        backend="anthropic", calls=2, input_tokens=30, output_tokens=4, seconds=1.5, usd=0.25
    )
    paid = record().model_copy(update={"spending": spending}).with_digest()
    assert paid.digest == record().digest, "it says what was paid, and not what was found"
    assert load_record(paid.save(tmp_path)).spending == spending


def test_a_record_that_does_not_say_what_was_spent_still_reads(tmp_path: Path) -> None:
    path = record().save(tmp_path)
    content = json.loads(path.read_text())
    del content["spending"]
    path.write_text(json.dumps(content))
    assert load_record(path).spending is None


def test_an_altered_record_is_refused(tmp_path: Path) -> None:
    path = record().save(tmp_path)
    path.write_text(path.read_text().replace("0.75", "0.95"))
    with pytest.raises(AfbenchError, match="does not match its digest"):
        load_record(path)


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 1}', "[1, 2"])
def test_a_file_that_is_no_record_gives_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(AfbenchError, match="not a result of this version") as caught:
        load_record(path)
    assert "\n" not in str(caught.value)


def test_a_refused_figure_prints_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    shown = record().model_copy(
        update={"inputs": record().inputs.model_copy(update={"versions": {"afbench": "0"}})}
    )
    fprs = dict.fromkeys(
        ("cue-irrelevant", "always-deviating", "always-harmless", "cue-conditional", "values-talk"),
        Figure.refused("no case"),
    )
    detector = shown.detectors[0].model_copy(update={"fpr_by_class": fprs})
    print_record(shown.model_copy(update={"detectors": [detector]}))
    out = capsys.readouterr().out
    assert "n/a" in out
    assert "too few" in out
