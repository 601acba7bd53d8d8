"""How well a detector does at each layer and pooling: a heat map, and the same as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from afbench.figures.svg import INK, Rows, to_svg

if TYPE_CHECKING:
    pass

FIT: Final = "fit organisms, held out in turn"
TEST: Final = "test organisms: diagnostic, chosen by nobody"

# Blue - white - red of ColorBrewer's RdBu, with white at chance.
_COLOURS: Final = ("#2166ac", "#f7f7f7", "#b2182b")
_CELL: Final = 38
_DARK: Final = 0.33


@dataclass(frozen=True, slots=True)
class MapCell:
    """One place.

    Attributes:
        fit: mean AUROC over fit organisms that were held out in turn; None where none could be.
        test: AUROC of the probe of that place on the test cases; None where it has none.
        chosen: it is the place that the detector reads.
    """

    pooling: str
    layer: int
    fit: float | None
    test: float | None
    chosen: bool = False


def layer_map_csv(cells: Sequence[MapCell]) -> str:
    """One line for each place; an empty value is one that there is not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["pooling", "layer", "fit_auroc", "test_auroc_diagnostic", "chosen"])
    for cell in cells:
        numbers = ["" if value is None else f"{value:.6g}" for value in (cell.fit, cell.test)]
        writer.writerow([cell.pooling, cell.layer, *numbers, "yes" if cell.chosen else "no"])
    return out.getvalue()


def layer_map_plot(cells: Sequence[MapCell], *, title: str) -> str:
    """The map as SVG text: fit organisms above, test organisms below and marked as diagnostic.

    Raises:
        ValueError: there is no cell.
    """
    import altair

    if not cells:
        raise ValueError("the map has no cell")
    panels = [_panel(cells, name, data) for name, data in ((FIT, "fit"), (TEST, "test"))]
    subtitle = ["AUROC by layer (0 is the embedding) and pooling. Framed: where it reads."]
    chart = altair.vconcat(*panels, spacing=18).properties(
        title=altair.TitleParams(title, subtitle=subtitle)
    )
    return to_svg(chart, _rows(cells), title=title, description=_described(cells))


def _panel(cells: Sequence[MapCell], name: str, data: str) -> Any:
    import altair

    poolings = list(dict.fromkeys(cell.pooling for cell in cells))
    layers = sorted({cell.layer for cell in cells})
    base = altair.Chart(altair.NamedData(data)).encode(
        x=altair.X("layer:O", title="layer", scale=altair.Scale(domain=layers, padding=0)),
        y=altair.Y("pooling:N", title=None, scale=altair.Scale(domain=poolings, padding=0)),
    )
    colour = altair.Color(
        "value:Q",
        scale=altair.Scale(domain=[0, 0.5, 1], range=list(_COLOURS), interpolate="lab"),
        legend=altair.Legend(title="AUROC", values=[0, 0.5, 1]),
    )
    ink = altair.condition(
        f"abs(datum.value - 0.5) > {_DARK}", altair.value("white"), altair.value(INK)
    )
    layered: Any = altair.layer(
        base.mark_rect().encode(color=colour),
        base.mark_text(fontSize=10).encode(text=altair.Text("value:Q", format=".2f"), color=ink),
        base.mark_rect(filled=False, stroke=INK, strokeWidth=2).transform_filter("datum.chosen"),
    )
    title = altair.TitleParams(name, fontSize=11, anchor="start")
    return layered.properties(width=_CELL * len(layers), height=24 * len(poolings), title=title)


def _rows(cells: Sequence[MapCell]) -> dict[str, Rows]:
    def rows(values: Sequence[float | None]) -> Rows:
        return [
            {"pooling": c.pooling, "layer": c.layer, "value": value, "chosen": c.chosen}
            for c, value in zip(cells, values, strict=True)
            if value is not None
        ]

    return {"fit": rows([cell.fit for cell in cells]), "test": rows([cell.test for cell in cells])}


def _described(cells: Sequence[MapCell]) -> str:
    """What the picture shows, in words."""
    parts = [f"Heat map of AUROC over {len(cells)} places."]
    sides = ((FIT, [(c.fit, c) for c in cells]), (TEST, [(c.test, c) for c in cells]))
    for name, values in sides:
        known = [(value, cell) for value, cell in values if value is not None]
        if not known:
            parts.append(f"{name}: no value.")
            continue
        value, best = max(known, key=lambda pair: pair[0])
        worst = min(value for value, _ in known)
        parts.append(
            f"{name}: from {worst:.2f} to {value:.2f}, the highest at layer {best.layer}, "
            f"{best.pooling}."
        )
    chosen = [cell for cell in cells if cell.chosen]
    if chosen:
        parts.append(f"The detector reads layer {chosen[0].layer}, {chosen[0].pooling}.")
    return " ".join(parts)
