"""A check as Markdown, for a summary of continuous integration or a comment on a change."""

from __future__ import annotations

from collections.abc import Sequence

from afbench.regression.comparison import Change
from afbench.regression.report import HEADINGS, LEGEND, Report, remarks, row, sentence, title

_MARKS = {"worse": "❌ worse", "not worse": "✅ not worse", "better": "✅ better"}


def markdown(report: Report) -> str:
    """The report as a document of its own."""
    lines = [f"### afbench check: {report.verdict}", ""]
    lines += [f"- {_plain(sentence(change))}" for change in report.worse]
    lines += [""] if report.worse else []
    for checked in report.checked:
        lines += [_plain(title(checked)), ""]
        cells = [[*row(change)[:-1], _MARKS[change.verdict]] for change in checked.changes]
        lines += [*_table(HEADINGS, cells), ""]
        found = [f"- {_plain(remark)}" for remark in remarks(checked)]
        lines += [*found, ""] if found else []
        for change in checked.changes:
            lines += _organisms(change)
    return "\n".join([*lines, LEGEND, ""])


def markdown_of_error(line: str) -> str:
    """What is written where a check could not run."""
    return f"### afbench check: could not run\n\n{_plain(line)}\n"


def _organisms(change: Change) -> list[str]:
    """Where a change is, folded away unless it is for the worse."""
    cells = [
        [one.organism, f"{one.before:.3f}", f"{one.now:.3f}", f"{one.drop:.3f}"]
        for one in change.by_organism
    ]
    if not cells:
        return []
    opened = " open" if change.verdict == "worse" else ""
    return [
        f"<details{opened}><summary>{_plain(change.detector)}, {change.metric}: by organism (no "
        "tests: where a change is)</summary>",
        "",
        *_table(("organism", "baseline", "now", "drop"), cells),
        "",
        "</details>",
        "",
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines]


def _plain(text: str) -> str:
    """Text that starts no cell, tag or line of its own."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(text.split())
