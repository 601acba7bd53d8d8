from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from afbench.cases.splits import SPLITS, folds_for
from afbench.errors import AfbenchError, StorageError
from afbench.regression.baseline import FoldOf, load_baseline
from afbench.store import digest_of
from tests.fakes import zoo
from tests.regression.drawn import as_baseline, made_up

SCORES = {"probe": [1.0, 0.1, 1 / 3, 2.0, 0.0, -1e-17, 0.5, 0.25]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    as_baseline(made_up(SCORES)).save(tmp_path / "probe.json")
    return tmp_path / "probe.json"


def rewritten(
    path: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = True
) -> Path:
    """The file with a change in it, and a digest that fits it if `sealed`."""
    content = json.loads(path.read_text())
    change(content)
    if sealed:
        kept = {name: v for name, v in content.items() if name not in ("created", "digest")}
        content["digest"] = digest_of(kept)
    path.write_text(json.dumps(content))
    return path


def test_what_is_read_back_is_what_was_saved_bit_for_bit(path: Path) -> None:
    baseline = load_baseline(path)
    assert baseline == as_baseline(made_up(SCORES))
    assert baseline.detectors["probe"].scores == SCORES["probe"]


def test_the_file_has_a_line_for_each_field_and_says_first_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[1] == '"kind": "afbench-baseline",'
    assert len(lines) == 2 + len(json.loads(path.read_text()))


def test_the_digest_leaves_out_only_when_it_was_made() -> None:
    first = as_baseline(made_up(SCORES))
    later = first.model_copy(update={"created": "2027-01-01T00:00:00+00:00"}).with_digest()
    assert later.digest == first.digest
    other = first.model_copy(update={"record": "sha256:other"}).with_digest()
    assert other.digest != first.digest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["cases"]["fold"].append(0), "not of one length"),
        (lambda c: c["cases"]["fold"].__setitem__(0, 7), "a fold that is not there"),
        (lambda c: c["detectors"]["probe"]["scores"].pop(), "not one score for each case"),
        (lambda c: c["detectors"]["probe"]["outcomes"].clear(), "not one score for each case"),
        (lambda c: c["organisms"].pop("faker"), "organism 'faker' is not described"),
        (lambda c: c.update(detectors={}), "no case or no detector"),
        (lambda c: c.update(surprise=1), "surprise"),
        (lambda c: c.update(schema_version=2), "its schema is 2, and this is 1"),
        (lambda c: c.update(kind="afbench-result"), "field 'kind'"),
        (lambda c: c["cases"]["label"].__setitem__(0, "evil"), "label"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(
    path: Path, change: Callable[[dict[str, Any]], object], line: str
) -> None:
    with pytest.raises(StorageError, match="not a usable baseline") as error:
        load_baseline(rewritten(path, change))
    text = str(error.value)
    assert line in text and "\n" not in text and str(path) in text


def test_an_altered_score_is_seen(path: Path) -> None:
    rewritten(path, lambda c: c["detectors"]["probe"]["scores"].__setitem__(0, 9), sealed=False)
    with pytest.raises(StorageError, match="it was altered"):
        load_baseline(path)


@pytest.mark.parametrize(
    "content", [b"", b'{"kind": "afbench', b"[1]", b"\xff\xfe", b"[" * 100_000]
)
def test_a_cut_off_or_foreign_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageError, match="not a usable baseline"):
        load_baseline(path)


def test_a_number_that_is_none_is_refused(path: Path) -> None:
    path.write_text(path.read_text().replace("0.25", "NaN"))
    with pytest.raises(StorageError, match="NaN"):
        load_baseline(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for where in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(StorageError, match="no such file"):
            load_baseline(where)


def test_a_measurement_without_cases_cannot_be_made() -> None:
    with pytest.raises(ValidationError, match="no case"):
        made_up({"probe": []}, scenarios=0)


@pytest.mark.parametrize("split", SPLITS)
def test_folds_are_kept_with_their_cues(split: str) -> None:
    members = zoo()
    [fold] = folds_for(members[0], members, split)  # type: ignore[arg-type]
    assert FoldOf.of(fold).as_fold() == fold


def test_it_cannot_be_written_where_there_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AfbenchError, match="cannot write"):
        as_baseline(made_up(SCORES)).save(tmp_path / "file" / "probe.json")
