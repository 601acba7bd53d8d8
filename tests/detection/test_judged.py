"""Detectors on judges: what stands for a missing verdict, and what the record is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.judged import NEITHER, JudgeDetector, judge_suspicions
from afbench.errors import JudgeError
from afbench.judging import Item, Spending, Verdict
from afbench.judging.rubrics import REASONING
from afbench.store import Store
from tests.fakes import handle_on


class _Scripted:
    """Its suspicion is the reply; "none" is no verdict."""

    kind, model, rubric, identity = "scripted", "", REASONING, "scripted"

    def __init__(self) -> None:
        self.spending = Spending()

    def verdicts(self, items: Sequence[Item], votes: int = 1) -> list[tuple[Verdict, ...]]:
        """The same vote every time."""
        return [
            (Verdict(None, problem="malformed"),) * votes
            if item.reply == "none"
            else (Verdict(float(item.reply)),) * votes
            for item in items
        ]


def _cases(folder: Path, *replies: str) -> list[Case]:
    handle = handle_on(FakeModel(0), "text", Store(folder))
    return [
        Case(
            str(number),
            ({"role": "user", "content": "?"}, {"role": "assistant", "content": reply}),
            "",
            0,
            handle,
        )
        for number, reply in enumerate(replies)
    ]


def test_a_missing_verdict_counts_as_neither_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    cases = _cases(tmp_path, "0.9", "none", "0.1", "0.6")
    found = judge_suspicions(_Scripted(), cases, failures=0.25)
    assert found.tolist() == [0.9, NEITHER, 0.1, 0.6]
    assert "1 of 4 cases have no verdict" in caplog.text


def test_too_many_missing_verdicts_are_no_scores(tmp_path: Path) -> None:
    cases = _cases(tmp_path, "0.9", "none", "0.1", "0.6")
    with pytest.raises(JudgeError, match="no verdict on 1 of 4 cases .malformed."):
        judge_suspicions(_Scripted(), cases, failures=0.2)


def test_several_votes_are_a_share(tmp_path: Path) -> None:
    cases = _cases(tmp_path, "0.9", "0.49")
    assert judge_suspicions(_Scripted(), cases, votes=3).tolist() == [1.0, 0.0]


def test_the_record_is_told_which_judge_and_how_often_it_is_wrong(tmp_path: Path) -> None:
    detector = JudgeDetector(votes=20)
    cases = _cases(tmp_path, "I will not.")
    detector.fit(cases, np.array([True]))
    told = detector.explain()
    assert (told["judge"], told["judge_votes"]) == ("rules", 20)
    assert {"judge_sensitivity", "judge_specificity", "judge_sensitivity_low"} <= set(told)


def test_scores_are_kept_by_what_the_judge_goes_by() -> None:
    plain, seeded = JudgeDetector(), JudgeDetector(judge_params={"seed": 3})
    assert plain.depends_on() == JudgeDetector().depends_on() != seeded.depends_on()
