from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from afbench.vllm_backend.reading import Reading
from afbench.vllm_backend.scoring import MOST_TOKENS, Tree


@dataclass(frozen=True)
class Said:
    logprob: float


def test_answers_of_one_token_take_one_request() -> None:
    tree = Tree([[5], [7]])
    assert tree.requests == [((), (5, 7))]
    assert tree.scores([{5: Said(-1.0), 7: Said(-2.0)}]) == [-1.0, -2.0]


def test_a_continuations_score_is_the_sum_along_its_path() -> None:
    tree = Tree([[5, 6], [5, 8, 9], [7]])
    assert tree.requests == [((), (5, 7)), ((5,), (6, 8)), ((5, 8), (9,))]
    assert tree.depth == 3
    answers = [
        {5: Said(math.log(0.5)), 7: Said(math.log(0.25))},
        {6: Said(math.log(0.1)), 8: Said(math.log(0.2))},
        {9: Said(math.log(0.5))},
    ]
    assert [math.exp(score) for score in tree.scores(answers)] == pytest.approx([0.05, 0.05, 0.25])


def test_many_tokens_are_asked_in_several_requests() -> None:
    count = MOST_TOKENS + 3
    tree = Tree([[token] for token in range(count)])
    assert [len(tokens) for _, tokens in tree.requests] == [MOST_TOKENS, 3]
    answers = [{token: Said(-token) for token in tokens} for _, tokens in tree.requests]
    assert tree.scores(answers) == [-token for token in range(count)]


def test_a_reading_comes_back_from_a_requests_extra_arguments() -> None:
    reading = Reading("0.safetensors", 12, (3, 1), ("prompt_last",))
    assert Reading.of(reading.as_extra()) == reading
    assert Reading.of(None) is None
    assert Reading.of({"kv_transfer_params": {"someone": "else"}}) is None
