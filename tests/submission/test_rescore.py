"""Every figure again from scores and grades: the same ones, or the ones that differ by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from afbench.errors import AfbenchError, BundleError
from afbench.results.progress import Silent
from afbench.results.record import ResultRecord, load_record
from afbench.results.run import run
from afbench.store import Store, digest_of
from afbench.submission.rescore import Difference, differences, opened, rescore
from tests.results.test_run import ZOO, settings
from tests.submission.small_run import NAME, folder_of, run_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    return run_of(place, folder_of(place))


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A run whose files a test may change."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def found(run: Path) -> list[Difference]:
    with opened(run) as (record, scores, evidence):
        return differences(record, rescore(record, scores, evidence))


def forged(run: Path, change: Callable[[Any], Any]) -> None:
    """A record that was altered by somebody who knows of its digest."""

    def altered(record: dict[str, Any]) -> None:
        change(record)
        volatile = {"created", "timings", "cache", "spending", "digest"}
        record["digest"] = digest_of({k: v for k, v in record.items() if k not in volatile})

    changed(run / "result.json", altered)


def index_of(run: Path, label: str) -> int:
    cases = json.loads((run / "scores.json").read_text())["cases"]
    return next(number for number, case in enumerate(cases) if case["label"] == label)


def test_a_run_comes_out_again_to_the_digit(made: Path) -> None:
    with opened(made) as (record, scores, evidence):
        assert rescore(record, scores, evidence) == record


def test_it_needs_no_model_library(made: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from afbench.submission.rescore import *;"
        "from afbench.submission.rescore import opened\n"
        f"with opened(Path({str(made)!r})) as parts: rescore(*parts)\n"
        "sys.exit(len({'torch', 'transformers', 'peft', 'altair'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_raised_figure_is_named_with_what_comes_out(own: Path) -> None:
    before = load_record(own / "result.json").detectors[0].auroc

    def raised(record: Any) -> None:
        record["detectors"][0]["auroc"] |= {"value": 0.99, "high": 1.0}

    forged(own, raised)
    names = {one.figure: one for one in found(own)}
    assert set(names) == {f"detectors.{NAME}.auroc.{end}" for end in ("value", "high")}
    one = names[f"detectors.{NAME}.auroc.value"]
    assert one.recorded == 0.99 and one.computed == pytest.approx(before.value)


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        (lambda r: r["detectors"][1]["cost"].update(queries=1), "detectors.a-floor.cost.queries"),
        (lambda r: r["detectors"][0].update(chosen={"desk": {"layer": 3}}), "chosen.desk.layer"),
        (lambda r: r["detectors"][2]["auroc"].update(value=0.9, reason=None), "a-broken-one.auroc"),
        (lambda r: r["organisms"][0]["labels"].update(faking=99), "labels.faking"),
        (lambda r: r["organisms"][0]["conformity_gap"].update(value=0.5), "conformity_gap.value"),
    ],
)
def test_any_other_figure_is_named_as_well(
    own: Path, change: Callable[[Any], Any], figure: str
) -> None:
    forged(own, change)
    assert any(figure in one.figure for one in found(own))


def test_an_altered_score_shows_in_every_figure_of_its_detector_and_no_other(own: Path) -> None:
    at = index_of(own, "sincere")
    changed(own / "scores.json", lambda s: s["scores"][NAME].__setitem__(at, 1e6))
    figures = [one.figure for one in found(own)]
    assert f"detectors.{NAME}.auroc.value" in figures
    assert all(figure.startswith(f"detectors.{NAME}.") for figure in figures)


def test_altered_held_out_scores_show_in_what_they_set(own: Path) -> None:
    def lower(evidence: Any) -> None:
        for fit in evidence["detectors"][NAME]["fits"]:
            fit["held_out_scores"] = [score - 1e3 for score in fit["held_out_scores"]]

    changed(own / "evidence.json", lower)
    figures = [one.figure for one in found(own)]
    assert any("fpr_by_class" in figure or "brier" in figure for figure in figures), figures
    assert not any("auroc" in figure for figure in figures)


def test_a_label_that_its_twins_do_not_show_is_refused(own: Path) -> None:
    at = index_of(own, "sincere")
    changed(own / "scores.json", lambda s: s["cases"][at].update(label="faking"))
    with pytest.raises(BundleError, match="is called faking, and its twins are sincere"):
        found(own)


def test_a_case_that_was_left_out_is_missed(own: Path) -> None:
    def without(scores: Any) -> None:
        for column in (scores["cases"], *scores["scores"].values()):
            del column[3]

    changed(own / "scores.json", without)
    with pytest.raises(BundleError, match="has no score in fold 'desk'"):
        found(own)


def test_a_case_that_counts_twice_is_refused(own: Path) -> None:
    def doubled(scores: Any) -> None:
        for column in (scores["cases"], *scores["scores"].values()):
            column.append(column[-1])

    changed(own / "scores.json", doubled)
    with pytest.raises(BundleError, match="stands there twice"):
        found(own)


def _set(path: Sequence[str | int], value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "match"),
    [
        ("scores.json", _set(["scores", "a-floor"], [1.0]), "1 scores of 'a-floor' for"),
        ("scores.json", _set(["scores"], {}), "other scored detectors"),
        ("scores.json", _set(["folds"], ["elsewhere"]), "other folds"),
        ("scores.json", _set(["cases", 0, "organism"], "fit-a-faker"), "not one of its fold's"),
        ("scores.json", _set(["cases", 0, "fold"], 7), "not those of the folds"),
        ("scores.json", _set(["cases", 0, "label"], "nice"), "cases.0.label"),
        ("scores.json", _set(["robustness"], {"x": {"folds": [], "cases": [], "scores": {}}}),
         "other evasions"),
        ("evidence.json", _set(["detectors", NAME, "fits"], []), "not of every fold"),
        ("evidence.json", _set(["detectors", NAME, "seen"], {"forms": 3}), "'seen' is malformed"),
        ("evidence.json", _set(["detectors", NAME, "read"], [[0.5]]), "another length"),
        ("evidence.json", _set(["organisms", "test-faker"], {}), "has no twins"),
        ("evidence.json", _set(["organisms", "test-faker", "test", "cues"], ["x"]), "one length"),
        ("evidence.json", _set(["organisms"], {}), "other organisms"),
        ("evidence.json", _set(["kind"], "x"), "kind"),
    ],
)  # fmt: skip
def test_files_that_are_not_of_one_run_are_refused(
    own: Path, file: str, change: Callable[[Any], Any], match: str
) -> None:
    changed(own / file, change)
    with pytest.raises(AfbenchError, match=match) as error:
        found(own)
    assert "\n" not in str(error.value)


def test_a_run_of_before_says_what_to_do(own: Path) -> None:
    (own / "evidence.json").unlink()
    with pytest.raises(BundleError, match="no evidence.json.*--fresh"):
        found(own)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["recipe", "cue"])
def test_a_run_with_evading_organisms_comes_out_again(tmp_path: Path, split: str) -> None:
    chosen = settings(split=split, detectors=["floor-bag-of-words", "floor-layer-zero", "probe"])
    outcome = run(chosen, ZOO, Store(tmp_path / "cache"), tmp_path / "runs", Silent())
    record: ResultRecord = outcome.record
    assert record.robustness_folds
    assert any(one.behaviour_reading for one in record.detectors)
    with opened(outcome.path.parent) as (recorded, scores, evidence):
        assert rescore(recorded, scores, evidence) == record
