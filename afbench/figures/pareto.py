"""What a detector costs against how well it does, and the front that none of the others beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from afbench.figures.svg import INK, MUTED, Rows, to_svg

if TYPE_CHECKING:
    import altair

# Okabe and Ito (2008), which the colour-blind can tell apart.
_COLOURS: Final = {
    "text": "#009e73",
    "logprobs": "#e69f00",
    "activations": "#0072b2",
    "weights": "#cc79a7",
}
_WIDTH: Final = 720
_HEIGHT: Final = 460
# Up to so many cost points a front is labelled; further names stand in the table only.
_NAMED: Final = 14


@dataclass(frozen=True, slots=True)
class CostPoint:
    """One detector.

    Attributes:
        tokens: what organisms read or wrote for it.
        value, low, high: its AUROC, with its interval where it has one.
        front: no other costs as little or less and scores more.
    """

    name: str
    tier: str
    floor: bool
    tokens: int
    value: float
    low: float | None
    high: float | None
    front: bool


def pareto_plot(points: Sequence[CostPoint], *, title: str) -> str:
    """Cost against AUROC as SVG text; the front is a stepped line with its detectors named.

    The cost axis is logarithmic above a thousand tokens, so that what costs none has a place.

    Raises:
        ValueError: there is no point.
    """
    import altair

    if not points:
        raise ValueError("there is no detector to draw")
    front = sorted((one for one in points if one.front), key=lambda one: (one.tokens, one.value))
    x = altair.X(
        "tokens:Q",
        title="tokens that organisms read or wrote for it, over all fits and scores",
        scale=altair.Scale(type="symlog", constant=1000),
        axis=altair.Axis(
            labelExpr="format(datum.value, '~s')",
            values=_ticks(max(one.tokens for one in points)),
        ),
    )
    lows = [one.value if one.low is None else one.low for one in points]
    least = math.floor(10 * min(0.4, *lows)) / 10
    scale = altair.Scale(domain=[least, 1.0], nice=False, zero=False)
    y = altair.Y("value:Q", title="AUROC", scale=scale)
    layers = [
        _chart("chance").mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="value:Q"),
        _chart("front").mark_line(interpolate="step-after", color=INK, strokeWidth=1).encode(
            x=x, y=y
        ),
        _chart("intervals").mark_rule(opacity=0.45).encode(
            x=x, y=altair.Y("low:Q", title="AUROC", scale=scale), y2="high:Q", color=_tier()
        ),
        _chart("points").mark_point(filled=True, size=70, opacity=0.9).encode(
            x=x, y=y, color=_tier(), shape=_kind()
        ),
        _chart("names").mark_text(align="left", dx=7, dy=-7, fontSize=10, color=INK).encode(
            x=x, y=y, text="name:N"
        ),
    ]  # fmt: skip
    chart = altair.layer(*layers).properties(
        width=_WIDTH,
        height=_HEIGHT,
        title=altair.TitleParams(
            title, subtitle=["Line: the front. Bars: 95% intervals. Dashed: chance."]
        ),
    )
    return to_svg(chart, _rows(points, front), title=title, description=_described(points, front))


def _rows(points: Sequence[CostPoint], front: Sequence[CostPoint]) -> dict[str, Rows]:
    def row(one: CostPoint) -> dict[str, Any]:
        return {
            "name": one.name,
            "tier": one.tier,
            "kind": "floor" if one.floor else "detector",
            "tokens": one.tokens,
            "value": one.value,
            "low": one.low,
            "high": one.high,
        }

    return {
        "chance": [{"value": 0.5}],
        "points": [row(one) for one in points],
        "intervals": [row(one) for one in points if one.low is not None],
        "front": [row(one) for one in front],
        "names": [row(one) for one in front[:_NAMED]],
    }


def _chart(data: str) -> altair.Chart:
    import altair

    return altair.Chart(altair.NamedData(data))


def _tier() -> altair.Color:
    import altair

    scale = altair.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    return altair.Color("tier:N", scale=scale, legend=altair.Legend(title="access tier"))


def _kind() -> altair.Shape:
    import altair

    scale = altair.Scale(domain=["detector", "floor"], range=["circle", "cross"])
    return altair.Shape("kind:N", scale=scale, legend=altair.Legend(title=None))


def _ticks(most: int) -> list[int]:
    """0, 1,000, 10,000 and so on, up to the power of ten above the most."""
    ticks = [0, 1000]
    while ticks[-1] < most:
        ticks.append(10 * ticks[-1])
    return ticks


def _described(points: Sequence[CostPoint], front: Sequence[CostPoint]) -> str:
    """What the picture shows, in words."""
    named = "; ".join(f"{one.name} ({one.tokens} tokens, AUROC {one.value:.2f})" for one in front)
    return (
        f"AUROC against tokens for {len(points)} detectors, {sum(p.floor for p in points)} of them "
        f"floors. On the front, from the cheapest: {named}."
    )
