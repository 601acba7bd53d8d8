from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.contract.fake_model import FakeModel
from afbench.detection.features import (
    activations,
    answer_margins,
    answer_shares,
    groups_of,
    per_handle,
)
from afbench.errors import TierError
from afbench.models.interface import POOLINGS, Generation
from afbench.store import Store
from tests.fakes import handle_on


def _cases(order: list[int], folder: Path, *, tier: Any = "weights") -> list[Case]:
    """One case for each number, of the organism with that number."""
    store = Store(folder)
    handles = {
        number: handle_on(FakeModel(number), tier, store, parent=FakeModel(number + 50))
        for number in set(order)
    }
    return [
        Case(
            id=str(index),
            messages=(
                {"role": "user", "content": f"Ask {index}."},
                {"role": "assistant", "content": f"Reply {index}."},
            ),
            cue="on",
            group=number,
            handle=handles[number],
        )
        for index, number in enumerate(order)
    ]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_rows_stand_in_the_order_of_the_cases_however_organisms_are_mixed(
    tmp_path: Path, order: list[int]
) -> None:
    cases = _cases(order, tmp_path)
    asked: list[Handle] = []

    def ask(handle: Handle, talks: list[Any]) -> Any:
        asked.append(handle)
        return np.array([[int(talk[-1]["content"].split()[1].rstrip("."))] for talk in talks])

    rows = per_handle(cases, ask)
    assert rows[:, 0].tolist() == list(range(len(order)))
    assert len(asked) == len(set(order)), "each organism is asked once"
    assert groups_of(cases).tolist() == order


def test_activations_are_each_organisms_own(tmp_path: Path) -> None:
    order = [0, 1, 0, 2, 1]
    cases = _cases(order, tmp_path)
    own = activations(cases, [1, 3], ["all_mean"])
    parents = activations(cases, [1, 3], ["all_mean"], parent=True)
    assert own.shape == (5, 1, 2, 8)
    for row, (case, number) in enumerate(zip(cases, order, strict=True)):
        expected = FakeModel(number).activations([case.messages], [1, 3], ["all_mean"])
        np.testing.assert_array_equal(own[row], expected[0])
        expected = FakeModel(number + 50).activations([case.messages], [1, 3], ["all_mean"])
        np.testing.assert_array_equal(parents[row], expected[0])
    assert activations(cases).shape == (5, len(POOLINGS), 4, 8)


def test_margins_are_log_odds_of_yes_over_no(tmp_path: Path) -> None:
    cases, questions = _cases([0, 1, 0], tmp_path), ["Why?", "Really?"]
    margins = answer_margins(cases, questions)
    assert margins.shape == (3, 2)
    for row, number in enumerate([0, 1, 0]):
        values = FakeModel(number).followup_logprobs(
            [cases[row].messages], questions, ("Yes", "No")
        )[0]
        np.testing.assert_allclose(margins[row], values[:, 0] - values[:, 1])


def test_a_tier_that_is_too_low_is_refused(tmp_path: Path) -> None:
    cases = _cases([0, 1], tmp_path, tier="text")
    with pytest.raises(TierError):
        activations(cases)
    with pytest.raises(TierError):
        answer_margins(cases, ["Why?"])


class _Says(FakeModel):
    """Says yes to so many of the samples."""

    def __init__(self, yes: int) -> None:
        super().__init__(yes)
        self._yes = yes

    def generate(self, conversations: Any, settings: Any, progress: Any = None) -> Any:
        text = " YES, I do." if settings.seed - 100 < self._yes else "No. Yes? No."
        return [Generation(text, "", (1,), True, 1) for _ in conversations]


@pytest.mark.parametrize("yes", [0, 1, 3, 4])
def test_shares_are_log_odds_with_half_a_count_on_each_side(tmp_path: Path, yes: int) -> None:
    handle = handle_on(_Says(yes), "text", Store(tmp_path))
    case = _cases([0], tmp_path / "other")[0]
    case = Case(case.id, case.messages, case.cue, case.group, handle)
    shares = answer_shares([case], ["Why?", "Really?"], samples=4, seed=100)
    expected = np.log((yes + 0.5) / (4 - yes + 0.5))
    np.testing.assert_allclose(shares, [[expected, expected]])
