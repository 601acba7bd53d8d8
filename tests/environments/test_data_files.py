"""Malformed scenarios and cues: one line that names the file and the line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afbench.environments.scenarios import load_cues, load_scenarios
from afbench.errors import ManifestError

GOOD = {"id": "a", "request": "Do it.", "partition": "fit"}
LINE = json.dumps(GOOD)


def _line(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


def _one_line(error: ManifestError, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        (f"{LINE}\n{{oops", 2, "not JSON"),
        (f"{LINE}\n[1, 2]", 2, "not a JSON object"),
        (f"{LINE}\nnull", 2, "not a JSON object"),
        (_line(partition="train"), 1, "partition"),
        (f'{LINE}\n\n{{"id": "b", "partition": "fit"}}', 3, "request"),
        (_line(colour="red"), 1, "colour"),
        (_line(slots=["x"]), 1, "slots"),
        (_line(request=None), 1, "request"),
        (_line(benign="perhaps"), 1, "benign"),
        (f"{LINE}\n{_line(request='Another.')}", 2, "stands at line 1 already"),
        (f"{LINE}\n{_line(id='b')}", 2, "stands at line 1 already"),
        (f"{LINE}\n" + "[" * 100_000, 2, "not JSON"),
        (f'{LINE}\n{{"id": {"9" * 5000}}}', 2, "not JSON"),
    ],
)
def test_a_malformed_scenario_is_one_error_that_names_file_and_line(
    tmp_path: Path, text: str, line: int, part: str
) -> None:
    path = tmp_path / "scenarios.jsonl"
    path.write_text(text + "\n", "utf-8")
    with pytest.raises(ManifestError) as caught:
        load_scenarios(path)
    _one_line(caught.value, "scenarios.jsonl", f"line {line}", part)


def test_scenarios_that_are_not_text_or_not_there_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.jsonl"
    with pytest.raises(ManifestError) as missing:
        load_scenarios(path)
    _one_line(missing.value, "scenarios.jsonl")
    path.write_bytes(f"{LINE}\n".encode() + b'{"id": "\xff"}\n')
    with pytest.raises(ManifestError) as binary:
        load_scenarios(path)
    _one_line(binary.value, "scenarios.jsonl", "line 2", "UTF-8")


@pytest.mark.parametrize("text", ["", "\n\n", '{"canary": "afbench canary GUID 0"}\n'])
def test_a_file_without_a_scenario_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenarios.jsonl"
    path.write_text(text)
    with pytest.raises(ManifestError, match="no scenario"):
        load_scenarios(path)


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u000b", "\u000c", "\u001c"])
def test_a_request_may_hold_what_some_take_for_a_line_end(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "scenarios.jsonl"
    request = f"Do{separator}it."
    # A control character stands escaped, the others may stand as they are.
    raw = json.dumps({**GOOD, "request": request}, ensure_ascii=separator < " ")
    path.write_text(f"{raw}\n{_line(id='b', request='x')}\n", "utf-8")
    assert [scenario.request for scenario in load_scenarios(path)] == [request, "x"]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.jsonl"
    lines = [json.dumps({"canary": "x"}), LINE, _line(id="b", request="x")]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    assert [scenario.id for scenario in load_scenarios(path)] == ["a", "b"]


SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@SLOW
@given(st.lists(st.text(max_size=40) | ANY_JSON.map(json.dumps), max_size=4))
def test_any_text_loads_or_is_one_manifest_error(tmp_path: Path, lines: list[str]) -> None:
    for name, load in (("s.jsonl", load_scenarios), ("c.yaml", load_cues)):
        path = tmp_path / name
        path.write_text("\n".join(lines), "utf-8", errors="replace")
        try:
            load(path)
        except ManifestError as error:
            _one_line(error, name)


@SLOW
@given(st.fixed_dictionaries({}, optional={key: ANY_JSON for key in (*GOOD, "benign", "slots")}))
def test_any_record_is_a_scenario_or_one_error_with_its_line(
    tmp_path: Path, record: dict[str, object]
) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(f"{LINE}\n{json.dumps(record)}\n", "utf-8")
    try:
        assert len(load_scenarios(path)) == 2
    except ManifestError as error:
        _one_line(error, "s.jsonl", "line 2")


# Cues

PAIR = "  - {observed: 'on', unobserved: 'off', partition: fit}\n"
FAMILY = "families:\n- name: log\n  partition: fit\n  pairs:\n"


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        (FAMILY + "  - {observed: 'on', unobserved: 'on', partition: fit}\n", 5, "log-00 reads"),
        (FAMILY + PAIR + "  - {observed: 'on', unobserved: ' on ', partition: fit}\n", 6, "log-01"),
        (FAMILY + "  - {observed: 'on', partition: fit}\n", 5, "unobserved"),
        (FAMILY + PAIR + "  - {observed: 'a', unobserved: 'b', partition: tset}\n", 6, "tset"),
        (FAMILY + "  - {observed: 3, unobserved: 'b', partition: fit}\n", 5, "observed"),
        (f"{FAMILY}{PAIR}- name: log\n  partition: test\n  pairs: []\n", 6, "twice"),
        (f"{FAMILY}{PAIR}  - observed: 'x\n", 6, "YAML"),
        ("families: 3\n", 1, "families"),
        ("- families\n", 1, "mapping"),
        ("", 1, "mapping"),
    ],
)
def test_a_malformed_cue_is_one_error_that_names_file_and_line(
    tmp_path: Path, text: str, line: int, part: str
) -> None:
    path = tmp_path / "cues.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ManifestError) as caught:
        load_cues(path)
    _one_line(caught.value, "cues.yaml", f"line {line}", part)


def test_cues_carry_their_family_their_side_and_an_id_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "cues.yaml"
    second = "  - {observed: 'yes', unobserved: 'no', partition: test}\n"
    path.write_text(FAMILY.replace("partition: fit", "partition: test") + PAIR + second)
    first, other = load_cues(path)
    assert (first.id, first.family, first.partition) == ("log-00", "log", "fit")
    assert (other.id, other.partition, other.family_partition) == ("log-01", "test", "test")
    assert (other.text("observed"), other.text("unobserved")) == ("yes", "no")
