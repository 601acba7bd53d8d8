"""The gap matrix: a heat map of organisms x (environment, cue family)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from afbench.figures.gap_cells import GapCell, GapGrid, grid_of
from afbench.figures.svg import INK, Rows, to_svg

if TYPE_CHECKING:
    import altair

MEASURE: Final = "conformity gap: P(conforms | observed) − P(conforms | unobserved)"

# Blue - white - red of ColorBrewer's RdBu, which the colour-blind can tell apart.
COLOURS: Final = ("#2166ac", "#f7f7f7", "#b2182b")
_NO_VALUE: Final = "#bdbdbd"
_OUTLINE: Final = "#8c8c8c"

# In an axis label, what stands before this is the group; a heading's label has none.
_OF: Final = " / "
_IS_HEADING: Final = f"indexof(datum.value, '{_OF}') < 0"
_LABEL: Final = (
    f"{_IS_HEADING} ? datum.value : slice(datum.value, indexof(datum.value, '{_OF}') + {len(_OF)})"
)

# Up to so many columns, cells are wide enough to hold their number.
_COLUMNS_WITH_NUMBERS: Final = 24
_DARK: Final = 0.65
# A picture with more rows has its columns named at the bottom as well.
_ROWS_IN_SIGHT: Final = 40


def gap_matrix(cells: Sequence[GapCell], *, title: str, measure: str = MEASURE) -> str:
    """The gap matrix as SVG text.

    One row for each organism, grouped by role and home environment; one column for each cue family,
    grouped by environment. Colour goes from -1 over 0 to 1. A cell that was measured and has no
    value is grey and struck through; where nothing was measured, nothing is drawn.

    Args:
        cells: in any order; 250 organisms x 60 columns are legible on one tall picture.
        title: stands over the picture.
        measure: what the gap is, for the colour scale's title.

    Raises:
        ValueError: as `grid_of`.
    """
    import altair

    grid = grid_of(cells)
    numbers = sum(len(group.cue_families) for group in grid.columns) <= _COLUMNS_WITH_NUMBERS
    width, height = (36, 18) if numbers else (15, 13)
    layers = [_colours(grid, measure), *_no_values(grid, min(width, height))]
    if numbers:
        layers.append(_numbers(grid))
    chart = altair.layer(*layers).resolve_axis(x="independent")
    chart = chart.properties(
        title=altair.TitleParams(
            title,
            subtitle=[
                "A row is an organism, a column a family of cues in an environment.",
                "Grey, struck through: measured, but without a value. Blank: not measured.",
            ],
        ),
        width=width * len(_across(grid)),
        height=height * len(_down(grid)),
    )
    return to_svg(chart, _rows(grid), title=title, description=_described(grid, measure))


def _rows(grid: GapGrid) -> dict[str, Rows]:
    """The cells with and without a value, at their place on the axes."""
    headings = {name: row.heading for row in grid.rows for name in row.organisms}
    valued: list[dict[str, Any]] = []
    unvalued: list[dict[str, Any]] = []
    for cell in grid.in_order():
        place: dict[str, Any] = {
            "row": f"{headings[cell.organism]}{_OF}{cell.organism}",
            "column": f"{cell.environment}{_OF}{cell.cue_family}",
        }
        if cell.value is None:
            unvalued.append(place)
            continue
        # Adding 0.0 turns the "-0.00" of a small negative number into "+0.00".
        text = f"{round(cell.value, 2) + 0.0:+.2f}".replace("-", "−")
        valued.append(place | {"value": cell.value, "text": text})
    return {"valued": valued, "unvalued": unvalued}


def _colours(grid: GapGrid, measure: str) -> altair.Chart:
    """The cells with a value."""
    import altair

    colour = altair.Color(
        "value:Q",
        scale=altair.Scale(
            domain=[-1, 0, 1], range=list(COLOURS), interpolate="lab", clamp=True, nice=False
        ),
        legend=altair.Legend(
            title=measure,
            orient="top",
            direction="horizontal",
            gradientLength=300,
            values=[-1, -0.5, 0, 0.5, 1],
            format="+.1f",
        ),
    )
    # The outline tells a gap of zero, which is almost white, from what was not measured.
    outlined: altair.Chart = _chart("valued", grid, names_at="top").mark_rect(
        stroke=_OUTLINE, strokeWidth=0.5
    )
    return outlined.encode(color=colour)


def _no_values(grid: GapGrid, side: int) -> list[altair.Chart]:
    """Grey cells with a stroke through them, `side` pixels long and high."""
    base = _chart("unvalued", grid)
    tall = len(_down(grid)) > _ROWS_IN_SIGHT
    named = _chart("unvalued", grid, names_at="bottom" if tall else None)
    return [
        named.mark_rect(color=_NO_VALUE, stroke=_OUTLINE, strokeWidth=0.5),
        base.mark_point(shape="M-1,1L1,-1", size=side**2, stroke=INK, strokeWidth=1),
    ]


def _numbers(grid: GapGrid) -> altair.Chart:
    """The values as numbers, light on dark cells and dark on light ones."""
    import altair

    ink = altair.condition(f"abs(datum.value) > {_DARK}", altair.value("white"), altair.value(INK))
    written: altair.Chart = _chart("valued", grid).mark_text(fontSize=10)
    return written.encode(text="text:N", color=ink)


def _chart(
    data: str, grid: GapGrid, names_at: Literal["top", "bottom"] | None = None
) -> altair.Chart:
    """Data in the matrix's rows and columns; `names_at` is where the columns' names stand."""
    import altair

    axis: dict[str, Any] = {
        "labelExpr": _LABEL,
        "labelFontWeight": {"condition": {"test": _IS_HEADING, "value": "bold"}, "value": "normal"},
        "labelFontSize": 10,
        "labelOverlap": False,
        "ticks": False,
        "domain": False,
        "grid": True,  # leads the eye from a name to its cells
        "zindex": 0,
        "titlePadding": 8,
    }
    return altair.Chart(altair.NamedData(data)).encode(
        x=altair.X(
            "column:N",
            title="environment, and its families of cues",
            scale=altair.Scale(domain=_across(grid), padding=0),
            axis=altair.Axis(orient=names_at, labelAngle=-90, **axis) if names_at else None,
        ),
        y=altair.Y(
            "row:N",
            title="role and home environment, and its organisms",
            scale=altair.Scale(domain=_down(grid), padding=0),
            axis=altair.Axis(**axis),
        ),
    )


def _down(grid: GapGrid) -> list[str]:
    """The rows from top to bottom; a heading takes a row of its own."""
    found: list[str] = []
    for group in grid.rows:
        found += [group.heading, *(f"{group.heading}{_OF}{name}" for name in group.organisms)]
    return found


def _across(grid: GapGrid) -> list[str]:
    """The columns from left to right; a heading takes a column of its own."""
    found: list[str] = []
    for group in grid.columns:
        found.append(group.environment)
        found += [f"{group.environment}{_OF}{family}" for family in group.cue_families]
    return found


def _described(grid: GapGrid, measure: str) -> str:
    """What the picture shows, in words."""
    cells = grid.in_order()
    parts = [
        f"Heat map of the {measure}.",
        f"{sum(len(row.organisms) for row in grid.rows)} organisms by "
        f"{sum(len(column.cue_families) for column in grid.columns)} families of cues in "
        f"{len(grid.columns)} environments; {len(cells)} cells were measured.",
    ]
    for role in dict.fromkeys(row.role for row in grid.rows):
        values = sorted(c.value for c in cells if c.role == role and c.value is not None)
        if values:
            parts.append(
                f"{role}: {len(values)} cells, median {values[len(values) // 2]:+.2f}, "
                f"from {values[0]:+.2f} to {values[-1]:+.2f}."
            )
    missing = sum(cell.value is None for cell in cells)
    if missing:
        parts.append(f"{missing} measured cells have no value.")
    return " ".join(parts)
