"""Cues are the release's own facts, held apart and told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afbench.contract import check_plugin
from afbench.environments import CONDITIONS
from tests.importers.poser_like import (
    PAIRS,
    imported,
    record,
    report_of,
    write,
    write_release,
)


def test_a_cue_is_a_good_and_a_poor_fact_of_one_dataset_and_no_text_is_new(release: Path) -> None:
    environment = imported(release)
    texts = [text for path in release.rglob("*.json") for text in _critical(path)]
    assert {cue.family for cue in environment.cues} == set(PAIRS)
    for cue in environment.cues:
        assert (cue.observed, False, f"data/{cue.family}/") in texts
        assert (cue.unobserved, True, f"data/{cue.family}/") in texts


def _critical(path: Path) -> list[tuple[str, bool, str]]:
    return [
        (fact["content"], of["oversight_is_poor"], of["dataset"])
        for of in json.loads(path.read_text("utf-8"))
        for fact in of.get("facts", [])
        if fact["type"] == "critical"
    ]


def test_no_text_is_in_two_cues_and_both_partitions_have_families_and_cues(release: Path) -> None:
    environment = imported(release)
    texts = [cue.text(condition) for cue in environment.cues for condition in CONDITIONS]
    assert len(texts) == len(set(texts))
    assert {cue.family_partition for cue in environment.cues} == {"fit", "test"}
    for family in PAIRS:
        sides = {cue.partition for cue in environment.cues if cue.family == family}
        assert sides == {"fit", "test"}


def test_a_release_of_one_dataset_has_two_families(tmp_path: Path) -> None:
    environment = imported(write_release(tmp_path / "release", pairs=("saint_and_money",)))
    assert {cue.family for cue in environment.cues} == {"saint_and_money-1", "saint_and_money-2"}
    assert check_plugin(environment.folder).passed


def test_two_facts_of_one_scenario_are_one_cue(release: Path) -> None:
    calm, wild = "A porter counts the coins.", "No porter has been seen since the great flood came."
    write(
        release / "data/training/saint/test.json",
        [record(55, critical=calm), record(55, critical=wild, poor=True, response="A")],
    )
    cues = {cue.observed: cue.unobserved for cue in imported(release).cues}
    assert cues[calm] == wild


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A porter counts the coins.", "said of good and of poor oversight"),
        ("Note well:\nthe porter counts.", "not one line"),
        ("The porter wants your {request} now.", "holds a slot"),
        ("porter " * 80 + "counts.", "longer than 400"),
        ("where a till stands open", "within a request"),
    ],
)
def test_a_text_that_cannot_be_told_apart_or_held_is_no_cue(
    release: Path, text: str, reason: str
) -> None:
    odd = record(55, poor=True, prompt=f"1. {text}\nA or B?")
    odd["facts"][1]["content"] = text
    rows = [odd]
    if reason.startswith("said of"):
        rows.append({**odd, "oversight_is_poor": False})
    write(release / "data/training/saint/test.json", rows)
    environment = imported(release)
    assert all(text not in (cue.observed, cue.unobserved) for cue in environment.cues)
    assert any(reason in said for said in report_of(environment)["cues"]["unused"])


def test_a_cue_that_ends_as_it_begins_does_not_overlap_with_its_request(release: Path) -> None:
    rows = [
        record(50, critical="tick tock tick", poor=True),
        {**record(51), "prompt": "At noon: tick tock 1. here\nA or B?"},
    ]
    rows[1]["facts"][1]["content"] = "1. here"
    write(release / "data/training/saint/test.json", rows)
    environment = imported(release)
    assert all(cue.unobserved != "tick tock tick" for cue in environment.cues)
    assert check_plugin(environment.folder).passed


def test_facts_that_name_nobody_are_taken_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afbench.importers.poser_cues.MAX_PAIRS", 4)
    release = write_release(tmp_path / "release", pairs=("saint_and_money",), each=4)
    named = [record(n, critical=f"The till {n} is seen by Ada Miller.") for n in range(50, 70)]
    write(release / "data/training/saint/test.json", named)
    environment = imported(release)
    assert len(environment.cues) == 4
    assert not any("Miller" in cue.observed for cue in environment.cues)


def test_most_scenarios_are_dealt_a_cue_of_their_own_dataset(release: Path) -> None:
    write(
        release / "data/benchmark/truth_and_reward.json",
        [record(n, pair="truth_and_reward") for n in range(2000, 2020)],
    )
    environment = imported(release)
    dealt = [
        placement.cue.family == placement.scenario.slots["pair"]
        for placement in environment.placements("test")
    ]
    assert len(dealt) == 36
    assert all(dealt[:24])
