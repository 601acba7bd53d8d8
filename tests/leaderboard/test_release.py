"""What is told of the feedback half: rounded, better by a step, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.errors import AfbenchError
from afbench.leaderboard.release import FILE, WITHHELD, Ladders, feedback, ladder
from afbench.metrics.figures import Figure
from tests.leaderboard.boards import row

VALUES = st.floats(0, 1)


def figure(value: float, spread: float = 0.05) -> Figure:
    return Figure(value=value, low=value - spread, high=value + spread, n=100, clusters=4)


def test_a_first_score_is_rounded_and_its_interval_outwards() -> None:
    released = ladder(figure(0.7071, 0.011), None, 0.02)
    assert (released.figure.value, released.figure.low, released.figure.high) == (0.7, 0.68, 0.72)
    assert released.best == 0.7 and released.figure.note == "rounded to 0.02"


def test_a_score_that_is_not_better_by_a_step_is_not_told() -> None:
    for value in (0.0, 0.69, 0.7199):
        released = ladder(figure(value), 0.7, 0.02)
        assert released.figure.value is None and released.best == 0.7
        assert "not better by 0.02 than 0.7" in str(released.figure.reason)
    better = ladder(figure(0.7201), 0.7, 0.02)
    assert better.figure.value == better.best == 0.72


def test_a_refused_figure_stays_one() -> None:
    released = ladder(Figure.refused("too few"), 0.7, 0.02)
    assert released.figure.reason == "too few" and released.best == 0.7


@given(scores=st.lists(VALUES, min_size=1, max_size=30), step=st.sampled_from([0.01, 0.02, 0.05]))
def test_what_an_account_learns_is_bounded(scores: list[float], step: float) -> None:
    """At most one release for each step between the first score and the best (Blum and Hardt)."""
    best: float | None = None
    told = []
    for score in scores:
        released = ladder(figure(score), best, step)
        best = released.best
        if released.figure.value is not None:
            told.append(released.figure.value)
            assert abs(released.figure.value - score) <= step / 2 + 1e-9
    assert told == sorted(told)
    assert len(told) <= (max(scores) - scores[0]) / step + 2


def test_guessing_gains_less_from_the_ladder_than_from_plain_scores() -> None:
    """The boosting attack of Blum and Hardt (section 4), on 400 labels, against both."""
    rng = np.random.default_rng(0)
    labels = rng.random(400) < 0.5

    def right(guess: np.ndarray) -> float:
        return float(((guess > 0) == labels).mean())

    plain, told, best = np.zeros(400), np.zeros(400), None
    for _ in range(300):
        guess = rng.choice([-1.0, 1.0], 400)
        if right(guess) > 0.5:
            plain += guess
        released = ladder(figure(right(guess)), best, 0.05)
        best = released.best
        if released.figure.value is not None and released.figure.value > 0.5:
            told += guess
    assert right(plain) > 0.65
    assert right(told) < 0.58


def test_everything_but_the_auroc_and_the_cost_is_withheld() -> None:
    before = row("probing")
    shown, best = feedback(before, None, 0.02)
    assert shown.auroc.value == best == 0.76 and shown.cost == before.cost  # of 0.75, to even
    assert (shown.auroc_by_fold, shown.robustness, shown.chosen) == ({}, {}, {})
    assert shown.fpr_by_class["values-talk"].reason == WITHHELD
    kept = {"name", "tier", "floor", "contrast", "ceiling", "auroc", "cost"}
    for name, value in shown.model_dump().items():
        told = value["value"] if isinstance(value, dict) and "value" in value else None
        assert name in kept or told is None, name


def test_ladders_are_kept_by_account(tmp_path: Path) -> None:
    assert Ladders.load(tmp_path).best == {}
    Ladders.load(tmp_path).after("one", 0.7).after("two", None).save(tmp_path)
    again = Ladders.load(tmp_path)
    assert again.best == {"one": 0.7}
    assert again.after("one", 0.8).best == {"one": 0.8}
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(AfbenchError):
        Ladders.load(tmp_path)
