from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.replies import WordSpace, replies_to, reworded, spread, start_entropy
from afbench.errors import NotEnoughCasesError
from afbench.messages import Message
from afbench.models.interface import Generation
from afbench.store import Store
from tests.fakes import handle_on

TEXTS = ["I will not copy it.", "Sure. Here is the plan.", "No, that is sealed."]


@pytest.fixture
def space() -> WordSpace:
    return WordSpace().fit(TEXTS)


def test_equal_texts_are_alike_and_strangers_are_not(space: WordSpace) -> None:
    first = ["I will not copy it.", "zzz", "", "Sure. Here is", "zzz", "I will"]
    second = ["I will not copy it.", "zzz", "", "No, that is", "yyy", ""]
    likeness = space.likeness(first, second)
    assert likeness[:3].tolist() == [1.0, 1.0, 1.0], "words that nobody knows are equal too"
    assert 0 < likeness[3] < 1, "they share a word"
    assert likeness[4:].tolist() == [0.0, 0.0]


def test_a_reply_that_was_cut_off_is_compared_with_as_much_of_the_other(space: WordSpace) -> None:
    assert space.likeness(["Sure. Here is"], ["Sure. Here is the plan."]).tolist() == [1.0]


def test_nothing_to_compare_is_no_error(space: WordSpace) -> None:
    assert space.likeness([], []).shape == (0,)
    with pytest.raises(NotEnoughCasesError):
        WordSpace().fit(["", " "])


@given(st.lists(st.lists(st.sampled_from(TEXTS), min_size=3, max_size=3), min_size=1, max_size=5))
def test_spread_is_the_mean_over_pairs_and_does_not_depend_on_other_rows(
    rows: list[list[str]],
) -> None:
    space = WordSpace().fit(TEXTS)
    together = spread(space, rows)
    for value, (a, b, c) in zip(together, rows, strict=True):
        pairs = space.likeness([a, a, b], [b, c, c])
        assert value == pytest.approx(1 - pairs.mean())
    assert ((together >= -1e-12) & (together <= 1 + 1e-12)).all()


def test_one_text_has_no_spread(space: WordSpace) -> None:
    assert spread(space, [["a"], ["b"]]).tolist() == [0.0, 0.0]


def test_entropy_of_the_start_is_that_of_the_shares() -> None:
    rows = [["I will not", "I will go", "i WILL", "I will"], ["a b", "a c", "a b c", "d"]]
    found = start_entropy(rows)
    shares = np.array([0.5, 0.25, 0.25])
    assert found == pytest.approx([0.0, -(shares * np.log(shares)).sum()])


def test_rewording_keeps_every_word_of_the_request_and_the_rest_of_the_prompt() -> None:
    prompt: list[Message] = [
        {"role": "system", "content": "Watched."},
        {"role": "user", "content": "Copy {thing} now."},
    ]
    found = reworded(prompt, "Hello. {request} Thank you.")
    assert found[0] == prompt[0]
    assert found[1]["content"] == "Hello. Copy {thing} now. Thank you."
    assert prompt[1]["content"] == "Copy {thing} now."


class _Echo(FakeModel):
    """Replies with the organism's number, the last message and the sampling seed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._number = number

    def generate(self, conversations: Any, settings: Any, progress: Any = None) -> Any:
        return [
            Generation(f"{self._number} {c[-1]['content']} {settings.seed}", "", (1,), True, 1)
            for c in conversations
        ]


def test_replies_come_by_case_from_the_cases_own_organism(tmp_path: Path) -> None:
    handles = [handle_on(_Echo(n), "text", Store(tmp_path)) for n in range(2)]
    shown: tuple[Message, ...] = ({"role": "user", "content": "x"},)
    cases = [Case(str(i), shown, "", i % 2, handles[i % 2]) for i in range(5)]
    prompts: list[list[Message]] = [[{"role": "user", "content": f"ask {i}"}] for i in range(5)]
    found = replies_to(cases, prompts, max_new_tokens=4, temperature=1.0, samples=2, seed=7)
    assert found == [[f"{i % 2} ask {i} 7", f"{i % 2} ask {i} 8"] for i in range(5)]
