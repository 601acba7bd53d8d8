"""Uneven records are imported, or counted with a reason; broken files are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afbench.importers import poser_release
from tests.importers.poser_like import (
    fact,
    imported,
    record,
    report_of,
    scenario_of,
    text_of,
    write,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": "['Leave the till as it is.', 'Take what is in the till.']"},
        {"actions": None},
        {"actions": ["one"]},
        {"action_A": None, "action_B": None},
        {"action_A": 3, "facts_string": None, "complexity_level": None},
        {"response": "a"},
        {"response": " (A) "},
        {"response": "Action A."},
        {"oversight_is_poor": None},
        {"oversight_is_poor": "no idea"},
        {"dataset": None},
        {"dataset": ["a", "list"]},
        {"topic": {"unknown": [1]}, "probs": {"model": 0.5}, "surprise": None},
        {"prompt": text_of(record(77))},
        {"prompt": f"  <<prompt>>{text_of(record(77))}  "},
        {"prompt": f"noise <<prompt>>\n{text_of(record(77))}\n<</prompt>> noise"},
        {
            "facts": [
                "a text",
                {"content": "no type"},
                {"type": "critical"},
                {"type": 1, "content": "x"},
                {"type": " Critical", "content": f" {fact(77, poor=False)}\n"},
            ]
        },
        {"facts": str(record(77)["facts"])},
        {"facts": record(77)["facts"] * 2},
    ],
)
def test_an_uneven_record_is_imported_as_its_even_form_would_be(
    release: Path, changes: dict[str, Any]
) -> None:
    write(release / "data/benchmark/saint_and_fitness.json", [record(77, **changes)])
    scenario = scenario_of(imported(release), "data/benchmark/saint_and_fitness.json", 0)
    assert scenario is not None
    assert scenario.request == text_of(record(77)).replace(fact(77, poor=False), "{cue}")
    assert scenario.slots["good"] == "A"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("a text", "not a JSON object"),
        (None, "not a JSON object"),
        (record(77, prompt=None), "no prompt"),
        (record(77, prompt=["x"]), "no prompt"),
        (record(77, prompt="<<prompt>> <</prompt>>"), "no prompt"),
        (record(77, prompt="x" * 30_000), "longer than 20,000"),
        (record(77, critical="Keep {cue} shut."), "the prompt holds {cue}"),
        (record(77, critical="Half \ud800 of it."), "not valid Unicode"),
        (record(77, response="error"), "not A or B"),
        (record(77, response=None), "not A or B"),
        (record(77, response="C"), "not A or B"),
        (record(77, response=1), "not A or B"),
        (record(77, actions=None, action_A=None), "no two actions"),
        (record(77, actions=["a", "b", "c"], action_B=" "), "no two actions"),
        (record(77, actions="[" * 9_000, action_A=None), "no two actions"),
        (record(77, actions="[open('x', 'w'), 'b']", action_A=None), "no two actions"),
        (record(77, facts=None), "no fact of type critical"),
        (record(77, facts=[{"content": fact(77, poor=False)}]), "no fact of type critical"),
        (record(77, facts={"type": "critical"}), "no fact of type critical"),
        (
            record(77, facts=[{"type": "critical", "content": text} for text in ("You", "A:")]),
            "several facts",
        ),
        (record(77, facts=[{"type": "critical", "content": "Not there."}]), "not in the prompt"),
        (record(77, facts=[{"type": "critical", "content": "till"}]), "more than once"),
    ],
)
def test_a_record_that_cannot_be_a_scenario_is_counted_with_its_reason(
    release: Path, odd: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(release.parent)
    path = write(release / "data/benchmark/saint_and_fitness.json", [record(76), odd])
    environment = imported(release)
    assert not (release.parent / "x").exists(), "what a record holds is never run"
    name = path.relative_to(release).as_posix()
    assert scenario_of(environment, name, 0) is not None
    assert scenario_of(environment, name, 1) is None
    (file,) = [one for one in report_of(environment)["files"] if one["file"] == name]
    ((said, found),) = file["skipped"].items()
    assert reason in said
    assert found == {"count": 1, "example": {"file": name, "index": 1}}


def test_the_report_accounts_for_every_record(release: Path) -> None:
    report = report_of(imported(release, limit=10))
    for file in report["files"]:
        skipped = sum(skip["count"] for skip in file["skipped"].values())
        assert file["read"] == file["imported"] + skipped
    assert report["read"] == 24 + 6 * 17
    assert report["imported"] == {"test": 24, "fit": 10}
    assert {reason: skip["count"] for reason, skip in report["skipped"].items()} == {
        "beyond the limit of 10": 86,
        "the answer is not A or B": 6,
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{not json", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"records": []}', "not a list"),
        (b"\xff\xfe[]", "not UTF-8"),
        (b"[" + b" " * 300_000 + b"]", "larger than"),
    ],
)
def test_a_broken_file_is_reported_and_the_others_are_imported(
    release: Path, content: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poser_release, "MAX_BYTES", 200_000)
    (release / "data/benchmark/saint_and_fitness.json").write_bytes(content)
    environment = imported(release)
    problems = [file for file in report_of(environment)["files"] if "problem" in file]
    assert [file["file"] for file in problems] == ["data/benchmark/saint_and_fitness.json"]
    assert problem in problems[0]["problem"]
    assert len(environment.scenarios) == 24 + 96


def test_a_link_that_leads_out_of_the_folder_is_not_followed(release: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside/test.json", [record(77)])
    (release / "data/benchmark/out.json").symlink_to(outside)
    (release / "data/benchmark/nowhere.json").symlink_to(tmp_path / "nothing")
    (release / "data/benchmark/loop.json").symlink_to(release / "data/benchmark/loop.json")
    (release / "data/benchmark/folder.json").mkdir()
    (release / "data/training/saint").symlink_to(outside.parent)
    (release / "data/benchmark/again.json").symlink_to(
        release / "data/training/money_maximizer/train-0.json"
    )
    environment = imported(release)
    problems = {
        file["file"]: file["problem"]
        for file in report_of(environment)["files"]
        if "problem" in file
    }
    assert {name.rpartition("/")[2] for name in problems} == {
        "out.json", "nowhere.json", "loop.json", "folder.json", "saint"
    }  # fmt: skip
    assert problems["data/benchmark/folder.json"] == "it is no file"
    text = (environment.folder / "scenarios.jsonl").read_text("utf-8")
    assert "street 77," not in text
    assert scenario_of(environment, "data/benchmark/again.json", 0), "a link inside is a file"


def test_the_folder_data_may_be_named_itself(release: Path) -> None:
    assert len(imported(release / "data").scenarios) == 24 + 96
