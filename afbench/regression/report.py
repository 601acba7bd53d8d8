"""What a check found, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from afbench.regression.comparison import Change

HEADINGS: Final = (
    "detector", "metric", "baseline", "now", "drop", "tolerated", "detectable", "verdict"
)  # fmt: skip
LEGEND: Final = (
    "Drop: how much worse it is now, paired on the same cases, with an interval that holds at 95% "
    "for all comparisons together (organisms, then scenarios, are resampled). Worse: all of the "
    "interval lies beyond what is tolerated. Detectable: the drop that this check would have found "
    "with a probability of 80%."
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checked(_Part):
    """One baseline.

    Attributes:
        baseline: its file.
        digest, record, created, versions: of the baseline.
        organism, split: of its run.
        cases, organisms: how many the two sides share.
        notes: what a reader must know.
    """

    baseline: str
    digest: str
    record: str
    created: str
    versions: dict[str, str]
    organism: str
    split: str
    cases: int
    organisms: int
    changes: list[Change]
    notes: list[str]


class Report(_Part):
    """All of a check; `versions` are those that it was made with."""

    schema_version: Literal[1] = 1
    kind: Literal["afbench-check"] = "afbench-check"
    versions: dict[str, str]
    checked: list[Checked]

    @property
    def changes(self) -> list[Change]:
        """Of all baselines."""
        return [change for one in self.checked for change in one.changes]

    @property
    def worse(self) -> list[Change]:
        """What got worse."""
        return [change for change in self.changes if change.verdict == "worse"]

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return "worse" if self.worse else "not worse"


def title(checked: Checked) -> str:
    """What a baseline is of, in a line."""
    return (
        f"{checked.organism}, split {checked.split}: {checked.cases} cases of "
        f"{checked.organisms} organisms; baseline {checked.baseline}, made by afbench "
        f"{checked.versions.get('afbench', '?')} on {checked.created[:10]}"
    )


def row(change: Change) -> list[str]:
    """A change under the `HEADINGS`."""
    own = change.detector == change.rival
    return [
        change.detector if own else f"{change.detector} (baseline: {change.rival})",
        change.metric,
        f"{change.before:.3f}",
        f"{change.now:.3f}",
        interval(change),
        f"{change.allowed:g}",
        "none" if change.detectable is None else f"{change.detectable:.3f}",
        change.verdict,
    ]


def interval(change: Change) -> str:
    """The drop with its interval."""
    numbers = (change.drop, change.low, change.high)
    drop, low, high = (f"{round(number, 3) + 0.0:.3f}" for number in numbers)
    return f"{drop} [{low}, {high}]"


def sentence(change: Change) -> str:
    """What got worse, where and by how much."""
    text = (
        f"{change.detector}: {change.metric} went from {change.before:.3f} to {change.now:.3f}, "
        f"worse by {interval(change)} where {change.allowed:g} is tolerated"
    )
    worst = change.worst
    if worst is not None:
        text += f"; most on {worst.organism} ({worst.before:.3f} to {worst.now:.3f})"
    return text


def remarks(checked: Checked) -> list[str]:
    """Notes of a baseline and of its comparisons."""
    found = list(checked.notes)
    for change in checked.changes:
        about = f"{change.detector}, {change.metric}"
        if change.undetectable:
            found.append(f"{about}: no drop is detectable: {change.undetectable}")
        if change.note:
            found.append(f"{about}: {change.note}")
    return found


def text(report: Report) -> str:
    """The report for a terminal or a log."""
    lines: list[str] = []
    for checked in report.checked:
        lines.append(title(checked))
        lines += _aligned([HEADINGS, *(row(change) for change in checked.changes)])
        lines += [f"  {remark}" for remark in remarks(checked)]
    lines.append(LEGEND)
    lines += [f"worse: {sentence(change)}" for change in report.worse]
    lines.append(f"Verdict: {report.verdict}.")
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)).rstrip()
        for one in rows
    ]
