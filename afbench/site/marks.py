"""Small pictures as SVG. Only numbers go into them, and colours come from the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from afbench.metrics.figures import Figure

# The part of the scale of AUROC that intervals are drawn on.
LOW: Final = 0.3
HIGH: Final = 1.0
_WIDTH: Final = 140

_FRONT: Final = (760, 380)
_MARGIN: Final = (48, 16, 40, 44)
"""Of the picture of cost and score: left, right, top, bottom."""
_SYMLOG: Final = 1000.0


def interval(figure: Figure, behind: str | None = None) -> Markup:
    """A value and its interval on the scale of AUROC; decoration, as the numbers stand beside it.

    Args:
        behind: where the marks are that all rows of a table share (`#` and the id that `axis` was
            given); a mark at chance if None.
    """
    if figure.value is None:
        return Markup("")
    marks = f'<use href="{behind}"/>' if behind else _mark("r0", _x(0.5))
    return _small(marks + _bar(figure, _x))


def gap(figure: Figure) -> Markup:
    """A value and its interval between -1 and 1, with marks at 0 and at both ends."""
    if figure.value is None:
        return Markup("")

    def x(value: float) -> str:
        share = (_clamped(value, -1.0, 1.0) + 1) / 2
        return _number(4 + (_WIDTH - 8) * share)

    marks = "".join(_mark("r0", x(at)) for at in (-1, 0, 1))
    return _small(marks + _bar(figure, x))


def axis(marks: str | None = None, floor: float | None = None) -> Markup:
    """The scale over a column of intervals.

    Args:
        marks: id of the marks of chance and of the best floor, which are kept here for all rows.
    """
    ticks = "".join(f'<text x="{_x(at)}" y="11">{at:.1f}</text>' for at in (0.4, 0.6, 0.8))
    kept = ""
    if marks is not None:
        lines = _mark("r0", _x(0.5)) + ("" if floor is None else _mark("r1", _x(floor)))
        kept = f'<defs><g id="{escape(marks)}">{lines}</g></defs>'
    return _small(kept + ticks)


def roc(curve: Sequence[float], floor: Sequence[float] | None) -> Markup:
    """A ROC curve, with that of the best floor behind it; decoration beside a table."""

    def path(rates: Sequence[float]) -> str:
        step = 100 / (len(rates) - 1)
        points = (f"{_number(i * step)} {_number(100 - 100 * r)}" for i, r in enumerate(rates))
        return "M" + "L".join(points)

    behind = f'<path class="rf" d="{path(floor)}"/>' if floor else ""
    return Markup(
        '<svg class="roc" viewBox="-2 -2 104 104" aria-hidden="true">'
        '<path class="box" d="M0 0H100V100H0z"/><path class="r0" d="M0 100L100 0"/>'
        f'{behind}<path class="rc" d="{path(curve)}"/></svg>'
    )


@dataclass(frozen=True, slots=True)
class Point:
    """A detector in the picture of cost and score; `tokens` is its cost, `value` its AUROC."""

    name: str
    floor: bool
    tokens: int
    value: float
    front: bool


def front(points: Sequence[Point], described: str) -> Markup:
    """Cost against AUROC, the front as a stepped line with its detectors named.

    Args:
        described: the text alternative; a table stands beside the picture as well.
    """
    width, height = _FRONT
    left, right, top, bottom = _MARGIN
    most = max([1000.0, *(point.tokens for point in points)])
    least = min([0.4, *(math.floor(10 * point.value) / 10 for point in points)])
    least = max(0.0, least)

    def x(tokens: float) -> float:
        share = math.asinh(tokens / _SYMLOG) / math.asinh(most * 1.6 / _SYMLOG)
        return left + (width - left - right) * share

    def y(value: float) -> float:
        share = (_clamped(value, least, 1.0) - least) / (1.0 - least)
        return height - bottom - (height - top - bottom) * share

    parts = [
        f'<svg class="front" viewBox="0 0 {width} {height}" role="img">'
        f"<title>Cost and score</title><desc>{escape(described)}</desc>"
    ]
    for tick in _tenths(least):
        parts.append(
            f'<path class="grid" d="M{left} {_number(y(tick))}H{width - right}"/>'
            f'<text class="end" x="{left - 8}" y="{_number(y(tick) + 4)}">{tick:.1f}</text>'
        )
    for tokens in _powers(most):
        parts.append(
            f'<text class="mid" x="{_number(x(tokens))}" y="{height - bottom + 18}">'
            f"{short(tokens)}</text>"
        )
    parts.append(
        f'<path class="r0" d="M{left} {_number(y(0.5))}H{width - right}"/>'
        f'<text class="end" x="{width - right}" y="{height - 6}">'
        "tokens that organisms read or wrote, logarithmic above 1 k</text>"
        f'<text x="{left - 40}" y="16">AUROC</text>'
    )
    for kind, floor in (("pt", False), ("pf", True)):
        dots = (f"M{_number(x(p.tokens))} {_number(y(p.value))}h0" for p in points
                if p.floor == floor)  # fmt: skip
        parts.append(f'<path class="{kind}" d="{"".join(dots)}"/>')
    parts += _front_line(points, x, y, width - right)
    return Markup("".join([*parts, "</svg>"]))


def short(count: float) -> str:
    """A count in three digits or so: 689 k, 1.5 M."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= size * 0.9995:
            scaled = count / size
            return (
                f"{scaled:.1f}".removesuffix(".0") + unit if scaled < 10 else f"{scaled:.0f}{unit}"
            )
    return f"{count:.0f}"


def _front_line(
    points: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float], end: float
) -> list[str]:
    on = sorted((p for p in points if p.front), key=lambda p: (p.tokens, p.value))
    if not on:
        return []
    line = f"M{_number(x(on[0].tokens))} {_number(y(on[0].value))}"
    for point in on[1:]:
        line += f"H{_number(x(point.tokens))}V{_number(y(point.value))}"
    found = [f'<path class="fl" d="{line}H{end}"/>']
    for point in on[-8:]:
        at, anchor = x(point.tokens), ""
        if at > end * 0.72:
            anchor = ' class="end"'
        found.append(
            f'<text{anchor} x="{_number(at - 8 if anchor else at + 8)}" '
            f'y="{_number(y(point.value) - 9)}">{escape(point.name)}</text>'
        )
    return found


def _tenths(least: float) -> list[float]:
    return [tenth / 10 for tenth in range(round(least * 10), 11, 1)]


def _powers(most: float) -> list[float]:
    found, power = [0.0], 1000.0
    while power <= most:
        found.append(power)
        power *= 10
    return found


def _bar(figure: Figure, x: Callable[[float], str]) -> str:
    value = figure.value or 0.0
    bar = ""
    if figure.low is not None and figure.high is not None:
        bar = f'<path class="b" d="M{x(figure.low)} 8H{x(figure.high)}"/>'
    return f'{bar}<path d="M{x(value)} 8h0"/>'


def _mark(kind: str, x: str) -> str:
    return f'<path class="{kind}" d="M{x} 0v16"/>'


def _small(inner: str) -> Markup:
    """A picture of 140 by 16 pixels, which the style sheet says once for all of them."""
    return Markup(f'<svg aria-hidden="true">{inner}</svg>')


def _x(value: float) -> str:
    share = (_clamped(value, LOW, HIGH) - LOW) / (HIGH - LOW)
    return _number(4 + (_WIDTH - 8) * share)


def _clamped(value: float, low: float, high: float) -> float:
    return min(high, max(low, value))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
