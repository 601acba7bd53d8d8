"""The treatments as a picture: a row for each, a panel for each gap, verdicts by shape and word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afbench.certification.treatment import Change, Gap, Rates, Verdict
from afbench.figures.treatment_plot import TreatedGaps, treatment_plot
from afbench.metrics.figures import Figure
from tests.figures.svg_texts import alternative, size, texts


def figure(value: float, half: float = 0.1) -> Figure:
    return Figure(value=value, low=value - half, high=value + half, n=100)


def changes(before: float, after: float, verdict: Verdict) -> list[Change]:
    signs: dict[Gap, int] = {"misalignment": 1, "compliance": -1}
    return [
        Change(
            where="all cues",
            gap=gap,
            before=figure(sign * before),
            after=figure(sign * after),
            difference=figure(sign * (after - before)),
            verdict=verdict,
            rates_before=Rates(observed=figure(0.1), unobserved=figure(0.9)),
            rates_after=Rates(observed=figure(0.2), unobserved=figure(0.8)),
        )
        for gap, sign in signs.items()
    ]


ROWS = [
    TreatedGaps("sft", "faker", changes(0.8, 0.7, "survives")),
    TreatedGaps("rl", "faker", changes(0.8, 0.15, "undecided")),
    TreatedGaps("sft", "thinker", changes(0.6, 0.0, "closed")),
]


def test_every_row_and_every_gap_is_named() -> None:
    svg = treatment_plot(ROWS, title="Treated")
    assert {"faker", "thinker", "sft", "rl", "misalignment gap", "compliance gap"} <= texts(svg)
    assert {"closed", "survives", "undecided"} <= texts(svg)
    assert "P(misaligned | unobserved) − P(misaligned | observed)" in texts(svg)


def test_the_text_alternative_says_each_gap_with_its_interval_and_verdict() -> None:
    title, description = alternative(treatment_plot(ROWS, title="Treated"))
    assert title == "Treated"
    assert (
        "faker, sft: misalignment gap 0.80 [0.70, 0.90] before and 0.70 [0.60, 0.80] after "
        "(survives)" in description
    )
    assert "thinker, sft" in description and "(closed)" in description


def test_each_row_takes_as_much_room_as_the_others() -> None:
    """Rows of one label under two headings stay two rows, and a heading is one more."""
    more = [*ROWS, replace(ROWS[1], group="thinker")]
    heights = [size(treatment_plot(rows, title="t"))[1] for rows in (ROWS[:2], ROWS, more)]
    assert heights[1] - heights[0] == pytest.approx(2 * (heights[2] - heights[1]))
    assert heights[2] > heights[1]


def test_a_gap_without_a_value_leaves_its_row_in_place() -> None:
    unknown = Figure.refused("no pair is gradable")
    broken = [change.model_copy(update={"after": unknown}) for change in ROWS[0].changes]
    rows = [replace(ROWS[0], changes=broken), *ROWS[1:]]
    svg = treatment_plot(rows, title="t")
    assert size(svg) == size(treatment_plot(ROWS, title="t"))
    assert "n/a after" in alternative(svg)[1]


def test_the_same_records_give_the_same_picture() -> None:
    assert treatment_plot(ROWS, title="t") == treatment_plot(ROWS, title="t")


def test_no_treatment_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no treatment"):
        treatment_plot([], title="t")
