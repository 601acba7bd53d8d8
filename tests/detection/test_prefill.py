from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.prefill import other_starts, readiness, start_of, usual_starts
from afbench.store import Store
from tests.fakes import handle_on


def _cases(folder: Path, *replies: tuple[int, str]) -> list[Case]:
    handle = handle_on(FakeModel(0), "logprobs", Store(folder))
    return [
        Case(
            str(number),
            ({"role": "user", "content": "?"}, {"role": "assistant", "content": reply}),
            "",
            group,
            handle,
        )
        for number, (group, reply) in enumerate(replies)
    ]


def test_usual_starts_are_counted_by_organism_and_not_by_case(tmp_path: Path) -> None:
    cases = _cases(
        tmp_path,
        (0, "Sure. Here it is."), (0, "Sure. Here you go."), (0, "Sure. Here, take it."),
        (0, "I will not."), (1, "I will see."), (2, "No, never."), (2, ""),
    )  # fmt: skip
    assert usual_starts(cases, words=2, most=2) == ["I will", "No, never."]
    assert start_of("I will not do it.", 2) == "I will"


def test_a_start_that_the_reply_has_does_not_count(tmp_path: Path) -> None:
    cases = _cases(tmp_path, (0, "I WILL not."), (0, "Sure. Here it is."))
    found = other_starts(cases, ["I will", "Sure. Here"], 2)
    assert found.tolist() == [[False, True], [True, False]]


def test_readiness_sums_probabilities_of_those_that_count() -> None:
    shares = np.array([[0.5, 0.2, 0.1]])
    found = readiness(np.log(shares), np.array([[False, True, True]]))
    assert found[0] == pytest.approx([np.log(0.3), np.log(0.2)])


def test_readiness_is_finite_whatever_comes() -> None:
    logprobs = np.array([[-1e9, -1e9], [-1.0, -2.0]])
    found = readiness(logprobs, np.array([[True, True], [False, False]]))
    assert np.isfinite(found).all()
    assert found[1].tolist() == [-50.0, -50.0]
