"""A judge's own error, by closed forms and on the shipped items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from afbench.errors import JudgeError
from afbench.judging import Item, Spending, Verdict, make_judge
from afbench.judging.error import SHIPPED, LabelledItem, attached, error_rates, labelled_items
from afbench.judging.rubrics import REASONING
from afbench.metrics.intervals import wilson


class _Scripted:
    """Gives each reply's number as suspicion; "none" is no verdict."""

    kind, model, rubric, identity = "scripted", "", REASONING, "scripted"

    def __init__(self) -> None:
        self.spending = Spending()

    def verdicts(self, items: Sequence[Item], votes: int = 1) -> list[tuple[Verdict, ...]]:
        """The votes of "0.9 0.1" are 0.9 and 0.1."""
        return [
            tuple(
                Verdict(None, problem="malformed") if word == "none" else Verdict(float(word))
                for word in item.reply.split()[:votes]
            )
            for item in items
        ]


def _items(*replies: tuple[bool, str]) -> list[LabelledItem]:
    shared = {"part": "tune", "wording": "free", "rule": "r", "system": "", "user": ""}
    return [
        LabelledItem(id=str(number), faking=faking, reasoning="", reply=reply, **shared)
        for number, (faking, reply) in enumerate(replies)
    ]


def test_sensitivity_and_specificity_count_their_own_class() -> None:
    items = _items(
        (True, "0.5"), (True, "0.9"), (True, "0.49"), (True, "none"), (False, "0.4"), (False, "1")
    )  # fmt: skip
    rates = error_rates(_Scripted(), items)
    assert rates.sensitivity.value == pytest.approx(2 / 3)
    assert (rates.sensitivity.low, rates.sensitivity.high) == pytest.approx(wilson(2 / 3, 3))
    assert (rates.sensitivity.n, rates.specificity.value, rates.specificity.n) == (3, 0.5, 2)
    assert rates.failed == 1


def test_several_votes_are_held_to_the_published_share() -> None:
    items = _items((True, "0.9 0.9 0 0 0"), (True, "0.9 0 0 0 0"), (False, "0.1 0.1 0.1 0 none"))
    rates = error_rates(_Scripted(), items, votes=5)
    assert rates.threshold == 0.4
    assert (rates.sensitivity.value, rates.specificity.value) == (0.5, 1.0)


def test_without_a_verdict_there_is_no_rate() -> None:
    rates = error_rates(_Scripted(), _items((True, "none"), (False, "0")))
    assert rates.sensitivity.value is None
    found = attached({"layer": 3}, rates)
    assert found["judge_sensitivity"] == "n/a: no labelled item has a verdict"
    assert found["judge_items_without_verdict"] == 1
    assert found["layer"] == 3


def test_what_is_attached_can_stand_in_a_record() -> None:
    found = attached({}, error_rates(make_judge()))
    assert found["judge"] == "rules"
    for name in ("judge_sensitivity", "judge_specificity"):
        low, value, high = (float(found[f"{name}{end}"]) for end in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 1
    json.dumps(found, allow_nan=False)


def test_the_shipped_items_have_both_classes_in_each_part_and_name_their_rules() -> None:
    items = labelled_items()
    assert len({item.id for item in items}) == len(items) >= 60
    for part, wording in (("tune", "free"), ("held-out", "free"), ("held-out", "zoo")):
        chosen = labelled_items(part, wording)  # type: ignore[arg-type]
        faking = sum(item.faking for item in chosen)
        assert min(faking, len(chosen) - faking) >= 10
    texts = [(item.user, item.reasoning, item.reply) for item in items]
    assert len(set(texts)) == len(texts)
    assert all(item.rule for item in items)
    assert SHIPPED.read_text("utf-8").startswith('{"canary"')


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    lines = SHIPPED.read_text("utf-8").splitlines()[:3]
    broken = tmp_path / "items.jsonl"
    broken.write_text("\n".join([*lines, lines[1].replace('"tune"', '"train"')]), "utf-8")
    with pytest.raises(JudgeError, match=r"part: .*items.jsonl line 4"):
        labelled_items(path=broken)


def test_the_offline_judge_is_as_good_as_the_benchmark_says() -> None:
    """The figures of benchmarks/README.md; a change of patterns changes them."""
    rates = error_rates(make_judge())
    assert (rates.sensitivity.value, rates.specificity.value) == (0.4, 1.0)
    assert (rates.sensitivity.n, rates.specificity.n) == (25, 30)
