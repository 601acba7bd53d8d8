"""A dumbbell plot of treatments: each gap before and after, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from afbench.certification.certificate import MIN_EFFECT
from afbench.certification.treatment import Change, Gap, Verdict
from afbench.figures.svg import INK, MUTED, Rows, to_svg

if TYPE_CHECKING:
    import altair

# Of Okabe and Ito (2008), which the colour-blind can tell apart; the shapes say the same.
_COLOURS: Final[dict[Verdict, str]] = {
    "closed": "#0072b2",
    "survives": "#d55e00",
    "undecided": "#6b6b6b",
}
_SHAPES: Final[dict[Verdict, str]] = {
    "closed": "circle",
    "survives": "triangle-up",
    "undecided": "diamond",
}
_BAND: Final = "#eeeeee"

_WIDTH: Final = 330
_ROW: Final = 22
# Before stands a little above after, so that their intervals can be told apart.
_APART: Final = 4


@dataclass(frozen=True, slots=True)
class TreatedGaps:
    """The gaps of one organism before and after one treatment.

    Attributes:
        label: names the row; no two rows of a group have the same.
        group: the heading that the row stands under.
        changes: one for each gap.
    """

    label: str
    group: str
    changes: Sequence[Change]


def treatment_plot(rows: Sequence[TreatedGaps], *, title: str) -> str:
    """The treatments as SVG text: a panel for each gap, a dumbbell for each row.

    An open circle is the gap before and a filled mark the gap after; colour and shape are the
    verdict. The band holds gaps that are too small to count.

    Args:
        rows: in the order in which they are drawn; rows of a group follow each other.

    Raises:
        ValueError: there is no row.
    """
    import altair

    if not rows:
        raise ValueError("there is no treatment to draw")
    panels: list[Any] = [_panel(gap, rows, first=not i) for i, gap in enumerate(get_args(Gap))]
    chart = altair.hconcat(*panels, spacing=24).properties(
        title=altair.TitleParams(
            title,
            subtitle=[
                "Open: before. Filled: after, by the verdict on what remains. Lines: 95% "
                "intervals.",
                f"Band: gaps below {MIN_EFFECT:g}, which is where a closed gap lies with its whole "
                "interval.",
            ],
        )
    )
    return to_svg(chart, _data(rows), title=title, description=_described(rows))


def _panel(gap: Gap, rows: Sequence[TreatedGaps], *, first: bool) -> altair.LayerChart:
    import altair

    height = _ROW * len(_places(rows))
    axis = altair.Axis(
        labelExpr="split(datum.value, '\\n')[1]", grid=False, ticks=False, domain=False
    )
    y = altair.Y(
        "place:N",
        title=None,
        sort=_places(rows),
        scale=altair.Scale(domain=_places(rows)),
        axis=axis if first else None,
    )
    gaps = altair.Chart(altair.NamedData("gaps")).transform_filter(f"datum.gap === '{gap}'")
    band = altair.Chart(altair.NamedData("band")).mark_rect(color=_BAND).encode(x=_x("low", gap))
    before, after = (_APART * side for side in (-1, 1))
    layers: list[Any] = [
        band.encode(x2="high:Q"),
        altair.Chart(altair.NamedData("zero")).mark_rule(color=MUTED).encode(x="at:Q"),
        gaps.mark_rule(color=MUTED, strokeWidth=1, strokeDash=[2, 2]).encode(
            y=y, x=_x("before", gap), x2="after:Q"
        ),
        gaps.mark_rule(color=MUTED, strokeWidth=1, yOffset=before).encode(
            y=y, x=_x("before_low", gap), x2="before_high:Q"
        ),
        gaps.mark_rule(strokeWidth=2, yOffset=after).encode(
            y=y, x=_x("after_low", gap), x2="after_high:Q", color=_colour()
        ),
        gaps.mark_point(
            color=INK, fill="white", size=38, strokeWidth=1.2, opacity=1, yOffset=before
        ).encode(y=y, x=_x("before", gap)),
        gaps.mark_point(filled=True, size=55, opacity=1, yOffset=after).encode(
            y=y, x=_x("after", gap), color=_colour(), shape=_shape()
        ),
    ]
    if first:
        layers.append(
            altair.Chart(altair.NamedData("groups"))
            .mark_text(align="right", fontWeight="bold", color=INK, x=-6)
            .encode(y=y, text="group:N")
        )
    return altair.LayerChart(layer=layers).properties(
        width=_WIDTH, height=height, title=altair.TitleParams(f"{gap} gap", fontSize=12, offset=6)
    )


def _x(field: str, gap: Gap) -> altair.X:
    import altair

    formula = {
        "misalignment": "P(misaligned | unobserved) − P(misaligned | observed)",
        "compliance": "P(complied | observed) − P(complied | unobserved)",
    }[gap]
    return altair.X(
        f"{field}:Q",
        title=formula,
        scale=altair.Scale(domain=[-1, 1], nice=False),
        axis=altair.Axis(tickCount=5, format=".1f"),
    )


def _colour() -> altair.Color:
    import altair

    scale = altair.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    return altair.Color("verdict:N", scale=scale, legend=_legend())


def _shape() -> altair.Shape:
    import altair

    scale = altair.Scale(domain=list(_SHAPES), range=list(_SHAPES.values()))
    return altair.Shape("verdict:N", scale=scale, legend=_legend())


def _legend() -> altair.Legend:
    import altair

    return altair.Legend(title="after", orient="bottom")


def _data(rows: Sequence[TreatedGaps]) -> dict[str, Rows]:
    """The data of every layer, by the name that it asks for."""
    gaps = [
        {
            "place": _place(row),
            "gap": change.gap,
            "verdict": change.verdict,
            **{
                name: value
                for side in ("before", "after")
                for name, value in _ends(side, change).items()
            },
        }
        for row in rows
        for change in row.changes
    ]
    return {
        "gaps": gaps,
        "groups": [{"place": _heading(g), "group": g} for g in dict.fromkeys(_groups(rows))],
        "band": [{"low": -MIN_EFFECT, "high": MIN_EFFECT}],
        "zero": [{"at": 0}],
    }


def _ends(side: str, change: Change) -> dict[str, float | None]:
    figure = change.before if side == "before" else change.after
    return {side: figure.value, f"{side}_low": figure.low, f"{side}_high": figure.high}


def _groups(rows: Sequence[TreatedGaps]) -> list[str]:
    return [row.group for row in rows]


def _places(rows: Sequence[TreatedGaps]) -> list[str]:
    """What stands at the left from top to bottom: each group's heading, then its rows."""
    found: dict[str, None] = {}
    for row in rows:
        found.setdefault(_heading(row.group))
        found.setdefault(_place(row))
    return list(found)


def _heading(group: str) -> str:
    # A label ends at the line break: a heading has none, as its text is drawn in bold.
    return f"{group}\n"


def _place(row: TreatedGaps) -> str:
    return f"{row.group}\n{row.label}"


def _described(rows: Sequence[TreatedGaps]) -> str:
    """What the picture shows, in words."""
    said = [
        f"{row.group}, {row.label}: "
        + ", ".join(
            f"{change.gap} gap {change.before} before and {change.after} after ({change.verdict})"
            for change in row.changes
        )
        for row in rows
    ]
    return f"Dumbbell plot of {len(rows)} rows. {'; '.join(said)}."
