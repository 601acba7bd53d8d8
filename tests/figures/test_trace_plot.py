"""The trace plot: every panel with its unit, the home environment first, the transition marked."""

from __future__ import annotations

from dataclasses import replace

from afbench.figures.trace_plot import ActCurve, PathCurve, TraceCurves, trace_plot
from tests.figures.svg_texts import alternative, texts

STEPS = [0, 2, 4, 6]
CURVES = TraceCurves(
    loss=[1.0, 0.9, None, 0.5, 0.3, 0.2],
    gradient_norm=[0.1, 0.2, 0.9, 0.3, 0.1, 0.1],
    checkpoints=STEPS,
    paths=[
        PathCurve("all", [0.0, 1.0, 2.0, 3.0], [None, 0.9, 0.1, None]),
        PathCurve("layers.3.mlp", [0.0, 0.5, 1.0, 1.5], [None, 0.8, 0.2, None]),
    ],
    acts=[
        ActCurve("desk", 1.0, "observed", STEPS, [0.0, 0.0, 0.1, None]),
        ActCurve("ward", 1.0, "observed", STEPS, [0.0, 0.0, 0.1, 0.1]),
        ActCurve("ward", 1.0, "unobserved", STEPS, [0.0, 0.2, 0.9, 1.0]),
        ActCurve("ward", 2.5, "unobserved", STEPS, [0.0, 1.0, 1.0, 1.0]),
    ],
    home="ward",
    transition=(3, 4),
)


def test_every_panel_has_a_title_and_a_unit() -> None:
    svg = trace_plot(CURVES, title="Trace of x", statement="A transition.")
    seen = texts(svg)
    assert {"nats per token", "cosine", "norm", "training step", "P(misaligned act)"} <= seen
    assert {"Loss on assistant tokens", "Gradient norm before clipping", "Length of B"} <= seen
    assert {"ward (home), adapter × 1", "adapter × 2.5", "desk, adapter × 1"} <= seen
    assert {"observed", "unobserved", "Shaded: steps 3 to 4."} <= seen
    title, description = alternative(svg)
    assert title == "Trace of x"
    assert description.startswith("A transition. Line charts over 6 training steps")


def test_the_same_curves_give_the_same_picture() -> None:
    svg = trace_plot(CURVES, title="t", statement="s")
    assert trace_plot(CURVES, title="t", statement="s") == svg


def test_nothing_is_shaded_without_a_transition() -> None:
    svg = trace_plot(replace(CURVES, transition=None), title="t", statement="s")
    assert "#f3dcec" not in svg
    assert "#f3dcec" in trace_plot(CURVES, title="t", statement="s")
