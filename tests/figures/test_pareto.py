"""The picture of cost against score."""

from __future__ import annotations

import pytest

from afbench.figures.pareto import CostPoint, pareto_plot
from tests.figures.svg_texts import alternative, texts


def point(name: str, tokens: int, value: float, *, front: bool = False) -> CostPoint:
    return CostPoint(name, "text", name.startswith("floor"), tokens, value, None, None, front)


POINTS = [
    point("floor-words", 0, 0.6, front=True),
    point("cheap", 5_000, 0.8, front=True),
    point("worse", 90_000, 0.7),
    CostPoint("dear", "weights", False, 2_000_000, 0.9, 0.85, 0.95, True),
]


def test_the_front_is_named_and_the_rest_is_not() -> None:
    shown = texts(pareto_plot(POINTS, title="Cost and score"))
    assert {"floor-words", "cheap", "dear"} <= shown
    assert "worse" not in shown
    assert {"0", "1k", "10k", "1M"} <= shown


def test_the_alternative_text_tells_the_front_from_the_cheapest() -> None:
    svg = pareto_plot(POINTS, title="Cost and score")
    _, words = alternative(svg)
    assert "4 detectors, 1 of them floors" in words
    words = words.partition("from the cheapest: ")[2]
    assert words.index("floor-words") < words.index("cheap") < words.index("dear")
    assert pareto_plot(POINTS, title="Cost and score") == svg


def test_without_a_detector_there_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no detector"):
        pareto_plot([], title="x")
