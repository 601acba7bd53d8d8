"""No record and no file, whatever it holds, crashes the importer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afbench.contract import check_plugin
from tests.importers.poser_like import (
    imported,
    record,
    report_of,
    write,
    write_release,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["A", "{cue}", "critical", "['a', 'b']", "<<prompt>>", "a", "aa", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FACTS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(["critical", "x"]) | JSON, "content": JSON}
    ),
    max_size=3,
)
KEYS = {
    "prompt": st.text(alphabet="aAé{}cue \n\u2028", max_size=30) | JSON,
    "response": st.sampled_from(["A", "b", "error"]) | JSON,
    "oversight_is_poor": st.booleans() | JSON,
    "dataset": st.sampled_from(["data/saint_and_money/", "data/x/poor_oversight"]) | JSON,
    "facts": FACTS | JSON,
    "actions": st.just(["a", "b"]) | JSON,
    "action_A": JSON,
    "action_B": JSON,
}
# Whole but for their facts, so that odd texts get as far as a request and a cue.
NEARLY_WHOLE = st.builds(
    record,
    st.integers(0, 9),
    poor=st.booleans(),
    critical=st.text(alphabet="aAé{}cue: #'\"\\%\n\t\0\x85\u2028\ufeff\U0001f600", max_size=9)
    | st.sampled_from(["- a", "yes", "1:2", "null", "{request}", "~", "!!int 3", "&a", "\ud800"]),
)
RECORDS = st.lists(JSON | st.fixed_dictionaries({}, optional=KEYS) | NEARLY_WHOLE, max_size=6)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small release to put odd files into, on a disk that need not be waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        folder = tmp_path_factory.mktemp("strange") / "release"
        yield write_release(folder, pairs=("saint_and_money",), each=2)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=80)
@given(benchmark=RECORDS, training=RECORDS)
def test_no_record_whatever_crashes_the_importer(
    strange: Path, benchmark: list[Any], training: list[Any]
) -> None:
    write(strange / "data/benchmark/odd_and_even.json", benchmark)
    write(strange / "data/training/money_maximizer/test.json", training)
    environment = imported(strange)
    report = report_of(environment)
    for file in report["files"]:
        skipped = sum(skip["count"] for skip in file["skipped"].values())
        assert file["read"] == file["imported"] + skipped
    assert len(environment.scenarios) == sum(report["imported"].values()) >= 10
    checked = check_plugin(environment.folder)
    assert checked.passed, checked.failures


@settings(max_examples=40)
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_file_whatever_crashes_the_importer(strange: Path, content: bytes) -> None:
    (strange / "data/benchmark/odd_and_even.json").write_bytes(content)
    write(strange / "data/training/money_maximizer/test.json", [])
    assert len(imported(strange).scenarios) >= 10
