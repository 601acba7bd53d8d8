from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.contract.synthetic import synthetic_cases
from afbench.detection.linear import MeansProbe
from afbench.detection.places import (
    best_column,
    choose_place,
    chosen_place,
    thinned,
)
from afbench.store import Store
from tests.fakes import handle_on


def _cases(groups: list[int]) -> list[Case]:
    handle = handle_on(FakeModel(0), "text", Store(Path("unused")))
    return [
        Case(
            id=str(index),
            messages=(
                {"role": "user", "content": f"Ask {index}."},
                {"role": "assistant", "content": "Reply."},
            ),
            cue="",
            group=group,
            handle=handle,
        )
        for index, group in enumerate(groups)
    ]


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    most=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_thinning_is_even_keeps_every_organism_and_does_not_hang_on_the_order(
    groups: list[int], most: int, seed: int
) -> None:
    cases = _cases(groups)
    rows = thinned(cases, most)
    kept = np.bincount(np.array(groups)[rows], minlength=6)
    there = np.bincount(groups, minlength=6)
    assert len(set(rows.tolist())) == len(rows)
    assert len(rows) <= max(most, np.count_nonzero(there))
    assert ((kept > 0) == (there > 0)).all()
    assert (np.minimum(there, kept.max()) == kept).all(), "an organism with more left keeps more"
    shuffled = np.random.default_rng(seed).permutation(len(cases))
    again = thinned([cases[row] for row in shuffled], most)
    assert [cases[shuffled[row]].id for row in again] == [cases[row].id for row in rows]


def test_thinning_to_more_than_there_are_keeps_all() -> None:
    assert sorted(thinned(_cases([0, 1, 1, 2]), 99).tolist()) == [0, 1, 2, 3]


def test_the_place_that_holds_the_label_is_chosen() -> None:
    groups = [number for number in range(8) for _ in range(10)]
    labels = np.array(groups) % 2 == 0
    features = np.random.default_rng(0).normal(size=(80, 2, 3, 4)).astype(np.float32)
    features[:, 1, 2, 0] += 4 * labels
    place = choose_place(
        features, ["a", "b"], [4, 5, 6], _cases(groups), labels, strengths=[1], make=MeansProbe
    )
    assert (place.pooling, place.layer) == ("b", 6)
    assert place.auroc > 0.95


def test_of_scores_without_labels_the_best_is_taken_with_its_sign_as_it_is() -> None:
    groups = np.repeat(np.arange(8), 10)
    labels = groups % 2 == 0
    scores = np.random.default_rng(0).normal(size=(80, 3))
    scores[:, 0] -= 9 * labels  # the other way round: it must not be turned
    scores[:, 2] += 2 * labels
    column, found = best_column(scores, labels, groups)
    assert column == 2
    assert 0.8 < found < 1
    column, found = best_column(scores, labels, np.zeros(80, dtype=np.int64))
    assert column == 1
    assert np.isnan(found)


def test_a_choice_that_was_none_claims_no_figure() -> None:
    assert chosen_place(3, "all_mean", float("nan")) == {"layer": 3, "pooling": "all_mean"}
    assert chosen_place(3, "all_mean", 0.12345)["fit_auroc"] == 0.1235


def test_synthetic_cases_are_thinned_by_transcript(tmp_path: Path) -> None:
    cases, _ = synthetic_cases(
        seed=0, groups=3, tier="text", needs_parent=False, store=Store(tmp_path)
    )
    rows = thinned(cases, 6)
    assert sorted(cases[row].group for row in rows) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("most", [0, -1])
def test_one_case_of_every_organism_is_the_least(most: int) -> None:
    assert len(thinned(_cases([0, 0, 1]), most)) == 2
