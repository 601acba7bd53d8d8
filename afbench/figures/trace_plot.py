"""Small multiples of one organism's training: how it learned, and when it began to act on it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from afbench.figures.svg import INK, MUTED, Rows, to_svg

if TYPE_CHECKING:
    import altair

# Blue and orange of Okabe and Ito (2008), which the colour-blind can tell apart.
_COLOURS: Final = {"observed": "#0072b2", "unobserved": "#d55e00"}
_MARKED: Final = "#f3dcec"

_WIDTH: Final = 760
_HEIGHT: Final = 100
_GAP: Final = 20


@dataclass(frozen=True, slots=True)
class PathCurve:
    """The path of one B matrix (or of all of them, as one vector) over checkpoints.

    Attributes:
        name: of the matrix.
        norm: its Euclidean norm at each checkpoint.
        rotation: its local cosine similarity there; None where it has none.
    """

    name: str
    norm: Sequence[float]
    rotation: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class ActCurve:
    """Rates of the misaligned act at one adapter scale in one environment, in one condition.

    `steps` are those of the checkpoints that were tried, `rates` shares between 0 and 1; None where
    no reply could be graded.
    """

    environment: str
    scale: float
    condition: Literal["observed", "unobserved"]
    steps: Sequence[int]
    rates: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class TraceCurves:
    """What a trace plot shows.

    Attributes:
        loss: on assistant tokens, in nats a token, at each step from the first on; None where a
            batch had none.
        gradient_norm: before clipping, at each step.
        checkpoints: steps at which the paths were looked at.
        paths: the first is drawn strong, the others thin.
        acts: the behaviour.
        home: the environment that stands first.
        transition: the first and last step of the transition, which are marked; None without one.
    """

    loss: Sequence[float | None]
    gradient_norm: Sequence[float]
    checkpoints: Sequence[int]
    paths: Sequence[PathCurve]
    acts: Sequence[ActCurve]
    home: str
    transition: tuple[int, int] | None = None


def trace_plot(curves: TraceCurves, *, title: str, statement: str) -> str:
    """The trace as SVG text: small multiples over training steps.

    From top to bottom: loss, gradient norm, local cosine similarity of B, norm of B, and the rates
    of the misaligned act, a row for each environment and a column for each adapter scale.

    Args:
        title: stands over the picture.
        statement: what was found, which stands under the title.
    """
    import altair

    last = max(len(curves.loss), *curves.checkpoints)
    wide = _Panel(_WIDTH, last)
    panels: list[Any] = [
        wide.line("loss", "value:Q", "Loss on assistant tokens", "nats per token"),
        wide.line("gradient", "value:Q", "Gradient norm before clipping", "norm"),
        _paths(wide, "rotation", "Rotation: local cosine similarity of B's path", "cosine"),
        _paths(wide, "norm", "Length of B", "norm"),
    ]
    environments = sorted(
        {curve.environment for curve in curves.acts}, key=lambda name: (name != curves.home, name)
    )
    scales = sorted({curve.scale for curve in curves.acts})
    panels += [_acts(name, scales, curves.home, last) for name in environments]
    subtitle = textwrap.wrap(statement, 150)
    if curves.transition:
        subtitle.append(f"Shaded: steps {curves.transition[0]} to {curves.transition[1]}.")
    chart = altair.vconcat(*panels, spacing=_GAP).properties(
        title=altair.TitleParams(title, subtitle=subtitle)
    )
    return to_svg(chart, _rows(curves), title=title, description=_described(curves, statement))


def _rows(curves: TraceCurves) -> dict[str, Rows]:
    """The data of every panel, by the name that the panels ask for it."""
    marked = [curves.transition] if curves.transition else []
    paths = [
        {"step": step, "path": curve.name, "norm": norm, "rotation": rotation, "strong": not number}
        for number, curve in enumerate(curves.paths)
        for step, norm, rotation in zip(curves.checkpoints, curve.norm, curve.rotation, strict=True)
    ]
    acts = [
        {
            "step": step,
            "rate": rate,
            "condition": curve.condition,
            "place": _place(curve.environment, curve.scale),
        }
        for curve in curves.acts
        for step, rate in zip(curve.steps, curve.rates, strict=True)
    ]
    return {
        "loss": [{"step": i, "value": value} for i, value in enumerate(curves.loss, start=1)],
        "gradient": [
            {"step": i, "value": value} for i, value in enumerate(curves.gradient_norm, start=1)
        ],
        "paths": paths,
        "acts": acts,
        "marked": [{"from": first, "to": end} for first, end in marked],
    }


@dataclass(frozen=True, slots=True)
class _Panel:
    """One plot over training steps.

    Attributes:
        width: in pixels.
        last: the last step, where the axis ends.
    """

    width: int
    last: int

    def over_steps(self, data: str, y: altair.Y, title: str) -> altair.Chart:
        """A chart of rows with a `step`."""
        import altair

        return (
            altair.Chart(altair.NamedData(data), title=_panel_title(title))
            .encode(x=self._steps("step:Q"), y=y)
            .properties(width=self.width, height=_HEIGHT)
        )

    def line(self, data: str, field: str, title: str, unit: str) -> altair.LayerChart:
        """One line from zero up."""
        import altair

        y = altair.Y(field, title=unit, axis=altair.Axis(tickCount=4))
        return self.marked(self.over_steps(data, y, title).mark_line(color=INK, strokeWidth=1.2))

    def marked(self, *charts: altair.Chart) -> altair.LayerChart:
        """Charts on the shaded steps of the transition."""
        import altair

        band = (
            altair.Chart(altair.NamedData("marked"))
            .mark_rect(color=_MARKED)
            .encode(x=self._steps("from:Q"), x2="to:Q")
        )
        return altair.LayerChart(layer=[band, *charts])

    def _steps(self, field: str) -> altair.X:
        import altair

        return altair.X(
            field,
            title="training step",
            scale=altair.Scale(domain=[0, self.last], nice=False),
            axis=altair.Axis(grid=False, tickCount=max(2, self.width // 50), tickMinStep=1),
        )


def _paths(panel: _Panel, field: str, title: str, unit: str) -> altair.LayerChart:
    """A line for each path; the first one strong."""
    import altair

    y = altair.Y(f"{field}:Q", title=unit, axis=altair.Axis(tickCount=4))
    base = panel.over_steps("paths", y, title).encode(detail="path:N")
    thin = base.transform_filter("!datum.strong").mark_line(color=MUTED, strokeWidth=0.6)
    strong = base.transform_filter("datum.strong").mark_line(
        color=INK, strokeWidth=1.8, point=altair.OverlayMarkDef(color=INK, size=18)
    )
    return panel.marked(thin, strong)


def _acts(environment: str, scales: Sequence[float], home: str, last: int) -> altair.HConcatChart:
    """Rates of the misaligned act in one environment, side by side by scale."""
    import altair

    width = max(90, (_WIDTH - _GAP * (len(scales) - 1)) // len(scales))
    panel = _Panel(width, last)
    colour = altair.Color(
        "condition:N",
        title="condition",
        scale=altair.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        legend=altair.Legend(orient="bottom"),
    )
    dash = altair.StrokeDash(
        "condition:N", scale=altair.Scale(domain=list(_COLOURS), range=[[1, 0], [5, 3]])
    )
    plots = []
    for number, scale in enumerate(scales):
        y = altair.Y(
            "rate:Q",
            title=None if number else "P(misaligned act)",
            scale=altair.Scale(domain=[0, 1]),
            axis=altair.Axis(tickCount=3, labels=not number, format=".1f"),
        )
        where = f"{environment}{' (home)' if environment == home else ''}, " if not number else ""
        chart = panel.over_steps("acts", y, f"{where}adapter × {scale:g}")
        chart = chart.transform_filter(f"datum.place === '{_place(environment, scale)}'")
        # A line that is dashed beside one that is not can be told apart without colour.
        plots.append(
            panel.marked(chart.mark_line(strokeWidth=1.8).encode(color=colour, strokeDash=dash))
        )
    return altair.hconcat(*plots, spacing=_GAP)


def _place(environment: str, scale: float) -> str:
    return f"{environment} at {scale:g}"


def _panel_title(text: str) -> altair.TitleParams:
    import altair

    return altair.TitleParams(text, fontSize=11, offset=6)


def _described(curves: TraceCurves, statement: str) -> str:
    """What the picture shows, in words."""
    environments = sorted({curve.environment for curve in curves.acts})
    scales = sorted({curve.scale for curve in curves.acts})
    return (
        f"{statement} Line charts over {len(curves.loss)} training steps: loss, gradient norm, "
        f"local cosine similarity and norm of {len(curves.paths)} paths of B at "
        f"{len(curves.checkpoints)} checkpoints, and the rate of the misaligned act when observed "
        f"and when not, in {', '.join(environments) or 'no environment'}, with the adapter scaled "
        f"by {', '.join(f'{scale:g}' for scale in scales) or 'nothing'}."
    )
