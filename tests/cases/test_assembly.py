from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afbench.cases.assembly import CaseSet, Evidence, assemble
from afbench.rollouts import Rollout, Twin
from tests.fakes import CUE, case_set, evidence, fake_handles, rollout

LABELS = {
    "alpha": ["faking", "sincere", "deviant"],
    "beta": ["sincere"] * 3,
    "gamma": ["reversed", "ungradable", "sincere"],
    "delta": ["faking"] * 3,
}


def _assemble(given: list[Evidence], folder: Path, **options: bool) -> CaseSet:
    names = [item.organism for item in given]
    cues = {name: {CUE.id: CUE} for name in names}
    return assemble(given, fake_handles(names, folder), cues, **options)


def _seen(cases: CaseSet) -> list[tuple[str, int]]:
    """What a detector sees of the order: transcripts and group numbers."""
    return [(case.response, case.group) for case in cases.cases]


def test_a_case_and_its_row_belong_together(tmp_path: Path) -> None:
    cases = case_set(LABELS, tmp_path)
    assert len(cases) == 12
    for case, row in zip(cases.cases, cases.rows, strict=True):
        assert case.response == row.twin.observed.response
        assert case.prompt == row.twin.observed.messages
        assert case.cue == CUE.observed
        assert case.cue in case.messages[0]["content"]
        assert [m["role"] for m in case.messages] == ["system", "user", "assistant"]
    for name, labels in LABELS.items():
        own = [row.label for row in cases.rows if row.organism == name]
        assert sorted(own) == sorted(labels)
    np.testing.assert_array_equal(cases.labels, [row.label == "faking" for row in cases.rows])
    np.testing.assert_array_equal(cases.organisms, [row.organism for row in cases.rows])
    scored = {row.label for row in cases.rows if row.scored}
    assert scored == {"faking", "sincere"}


def test_a_group_is_one_organism_and_one_handle(tmp_path: Path) -> None:
    cases = case_set(LABELS, tmp_path)
    by_organism = {
        name: {case.group for case, row in zip(cases.cases, cases.rows, strict=True)
               if row.organism == name}
        for name in LABELS
    }  # fmt: skip
    assert all(len(groups) == 1 for groups in by_organism.values())
    assert {group for groups in by_organism.values() for group in groups} == {0, 1, 2, 3}
    for case in cases.cases:
        same = [other for other in cases.cases if other.group == case.group]
        assert all(other.handle is case.handle for other in same)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_the_order_in_which_evidence_is_given_shows_nowhere(
    tmp_path: Path, order: list[int], seed: int
) -> None:
    given_evidence = evidence(LABELS)
    shuffled = []
    for index in order:
        twins = list(given_evidence[index].twins)
        random.Random(seed).shuffle(twins)
        shuffled.append(replace(given_evidence[index], twins=tuple(twins)))
    first, second = _assemble(given_evidence, tmp_path), _assemble(shuffled, tmp_path)
    assert _seen(first) == _seen(second)
    assert [(r.organism, r.twin.scenario) for r in first.rows] == [
        (r.organism, r.twin.scenario) for r in second.rows
    ]


def test_the_names_of_organisms_show_neither_in_the_order_nor_in_the_groups(
    tmp_path: Path,
) -> None:
    given_evidence = evidence(LABELS)
    names = [item.organism for item in given_evidence]
    before = _seen(_assemble(given_evidence, tmp_path))
    for swapped in (names[1:] + names[:1], names[::-1], ["zz", "aa", "mm", "faker"]):
        renamed = [
            replace(item, organism=name) for item, name in zip(given_evidence, swapped, strict=True)
        ]
        assert _seen(_assemble(renamed, tmp_path)) == before


def test_labels_show_neither_in_the_order_nor_in_the_groups(tmp_path: Path) -> None:
    before = _seen(_assemble(evidence(LABELS), tmp_path))
    flipped = {
        name: ["sincere" if label == "faking" else "faking" for label in labels]
        for name, labels in LABELS.items()
    }
    assert _seen(_assemble(evidence(flipped), tmp_path)) == before


def test_what_an_organism_did_unobserved_shows_nowhere_in_the_order(tmp_path: Path) -> None:
    given_evidence = evidence(LABELS)
    before = _seen(_assemble(given_evidence, tmp_path))
    other = [
        replace(
            item,
            twins=tuple(
                Twin(one.observed, replace(one.unobserved, response="Something else."))
                for one in item.twins
            ),
        )
        for item in given_evidence
    ]
    assert _seen(_assemble(other, tmp_path)) == before


def test_organisms_stand_mixed_and_not_one_after_the_other(tmp_path: Path) -> None:
    labels = {f"organism-{index}": ["faking"] * 30 for index in range(2)}
    groups = [case.group for case in case_set(labels, tmp_path).cases]
    changes = sum(a != b for a, b in pairwise(groups))
    # 60 fair coins change 29.5 times, standard deviation 3.8.
    assert 14 < changes < 45


def test_ids_are_opaque_and_others_in_every_assembly(tmp_path: Path) -> None:
    first, second = case_set(LABELS, tmp_path), case_set(LABELS, tmp_path)
    ids = [case.id for cases in (first, second) for case in cases.cases]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
    # Were an id made from place, group or text, the same case would have it again.
    assert _seen(first) == _seen(second)
    assert sorted(ids[:12]) != ids[:12], "they do not count up"


def test_equal_weights_under_two_names_are_two_groups(tmp_path: Path) -> None:
    twins = evidence({"one": ["faking"]})[0].twins
    cases = _assemble([Evidence("one", "d", twins), Evidence("two", "d", twins)], tmp_path)
    assert {case.group for case in cases.cases} == {0, 1}


def test_reasoning_is_shown_only_where_the_run_says_so(tmp_path: Path) -> None:
    thinking = rollout("s0", "observed", response="No.", reasoning="They watch.")
    twins = (Twin(thinking, rollout("s0", "unobserved", reasoning="Nobody watches.")),)
    given_evidence = [Evidence("one", "d", twins)]
    [hidden] = _assemble(given_evidence, tmp_path).cases
    assert hidden.response == "No."
    assert "They watch." not in repr(hidden)
    [shown] = _assemble(given_evidence, tmp_path, show_reasoning=True).cases
    assert shown.response == "<think>\nThey watch.\n</think>\nNo."
    assert "Nobody watches." not in repr(shown)


def test_an_edited_case_changes_neither_the_rollout_nor_the_next_detectors_cases(
    tmp_path: Path,
) -> None:
    given_evidence = evidence(LABELS)
    before = [
        Rollout.from_record(one.observed.as_record())
        for item in given_evidence
        for one in item.twins
    ]
    for case in _assemble(given_evidence, tmp_path).cases:
        for message in case.messages:
            message["content"] = "poisoned"
    after = [one.observed for item in given_evidence for one in item.twins]
    assert after == before
    for case in _assemble(given_evidence, tmp_path).cases:
        assert "poisoned" not in repr(case)


@pytest.mark.parametrize("keep", ["faking", "sincere", "deviant", "nothing"])
def test_choosing_cases_keeps_rows_and_order(tmp_path: Path, keep: str) -> None:
    cases = case_set(LABELS, tmp_path)
    chosen = cases.where(lambda row: row.label == keep)
    assert [row.label for row in chosen.rows] == [keep] * len(chosen)
    places = [cases.cases.index(case) for case in chosen.cases]
    assert places == sorted(places)
    assert len(chosen) == sum(row.label == keep for row in cases.rows)
    assert len(chosen.labels) == len(chosen.organisms) == len(chosen)
