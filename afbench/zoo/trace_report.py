"""A trace as a page, and as the curves of its plot."""

from __future__ import annotations

from afbench.figures.trace_plot import ActCurve, PathCurve, TraceCurves
from afbench.zoo.trace_record import ActPoint, Peak, Trace

# Rows of the table of behaviour, at most about; all of it is in trace.json.
_ROWS = 12


def curves_of(trace: Trace) -> TraceCurves:
    """What the plot shows of a trace: all B matrices as one strong line, each one as a thin one."""
    several = len(trace.matrices) > 1
    paths = [trace.whole, *trace.matrices] if several else trace.matrices
    places = dict.fromkeys((point.environment, point.scale) for point in trace.behaviour)
    acts = []
    for environment, scale in places:
        points = points_of(trace, environment, scale)
        steps = [point.step for point in points]
        observed = [point.misaligned_when_observed.value for point in points]
        unobserved = [point.misaligned_when_unobserved.value for point in points]
        acts.append(ActCurve(environment, scale, "observed", steps, observed))
        acts.append(ActCurve(environment, scale, "unobserved", steps, unobserved))
    first, last = trace.transition.first, trace.transition.last
    return TraceCurves(
        loss=trace.loss,
        gradient_norm=trace.gradient_norm,
        checkpoints=trace.checkpoints,
        paths=[PathCurve(path.name, path.norm, path.rotation) for path in paths],
        acts=acts,
        home=trace.home,
        transition=None if first is None or last is None else (first, last),
    )


def points_of(trace: Trace, environment: str, scale: float) -> list[ActPoint]:
    """The behaviour at one scale in one environment, over checkpoints."""
    return [
        point
        for point in trace.behaviour
        if point.environment == environment and point.scale == scale
    ]


def peak_rows(trace: Trace) -> list[tuple[str, str, str]]:
    """What was looked for, the steps where it is, and what was found there."""
    transition = trace.transition
    rows = [
        ("rotation of B", _steps(transition.rotation), transition.rotation.detail),
        ("gradient norm", _steps(transition.gradient), transition.gradient.detail),
    ]
    for rise in transition.rises:
        where = f"{rise.first}-{rise.last}" if rise.found else "none"
        rows.append((f"behaviour × {rise.scale:g}", where, rise.detail))
    return rows


def markdown(trace: Trace) -> str:
    """The trace as a Markdown page, for a reader; trace.json has every number."""
    settings = trace.settings
    rank = "one matrix" if len(trace.matrices) == 1 else f"{len(trace.matrices)} matrices"
    lines = [
        f"# Trace of {trace.organism}",
        "",
        f"**{trace.transition.statement}**",
        "",
        f"Reproduces the shipped adapter: {trace.reproduction.detail}.",
        "",
        f"{trace.steps} steps of training on `{trace.parent}`; {len(trace.checkpoints)} "
        f"checkpoints, one every {settings.every} steps; B is {rank}. Behaviour: "
        f"{settings.scenarios} test scenarios of each environment in both conditions, greedy.",
        "",
        "![Loss, gradient norm, rotation, norm and behaviour over training steps](trace.svg)",
        "",
        "| what | steps | found |",
        "|---|---|---|",
        *(f"| {what} | {steps} | {detail} |" for what, steps, detail in peak_rows(trace)),
        "",
        "Rotation is the local cosine similarity of successive segments of the path of B, "
        f"cos(B_t − B_t₋k, B_t₊k − B_t) with k = {settings.every} steps (Turner, Soligo et al. "
        "2025, arXiv 2506.11613). An extreme counts if it is more than three deviations (of the "
        "median absolute deviation, scaled to a standard deviation) from the median, and the "
        "series comes back on both sides.",
        "",
    ]
    environments = dict.fromkeys(point.environment for point in trace.behaviour)
    for environment in environments:
        lines += _behaviour(trace, environment)
    return "\n".join(lines).rstrip() + "\n"


def _behaviour(trace: Trace, environment: str) -> list[str]:
    """A table of what some checkpoints do in one environment, scale by scale."""
    scales = trace.settings.scales
    home = " (home)" if environment == trace.home else ""
    lines = [
        f"## {environment}{home}",
        "",
        "P(misaligned | observed) / P(misaligned | unobserved) over all replies; in brackets the "
        "share that could be graded:",
        "",
        "| step | " + " | ".join(f"× {scale:g}" for scale in scales) + " |",
        "|---" * (len(scales) + 1) + "|",
    ]
    by_scale = [
        {point.step: point for point in points_of(trace, environment, scale)} for scale in scales
    ]
    steps = sorted(by_scale[0])
    for step in [*steps[: -1 : max(1, len(steps) // _ROWS)], steps[-1]]:
        shown = [_shown(points[step]) for points in by_scale]
        lines.append(f"| {step} | " + " | ".join(shown) + " |")
    return [*lines, ""]


def _shown(point: ActPoint) -> str:
    shown = (point.misaligned_when_observed, point.misaligned_when_unobserved, point.graded)
    observed, unobserved, graded = (figure.value or 0.0 for figure in shown)
    return f"{observed:.2f} / {unobserved:.2f} ({graded:.2f})"


def _steps(peak: Peak) -> str:
    if not peak.found:
        return "none"
    return str(peak.step) if peak.first == peak.last else f"{peak.first}-{peak.last}"
