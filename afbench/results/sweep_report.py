"""Records of several splits as one report: tables in Markdown and CSV, and cost against score."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from afbench.figures.pareto import CostPoint, pareto_plot
from afbench.metrics.comparison import Comparison
from afbench.metrics.figures import Figure
from afbench.results.evaluation import LOOKALIKE_CLASSES
from afbench.results.record import DetectorFigures, ResultRecord
from afbench.results.uplift import on_front
from afbench.store import write_bytes

BEGIN: Final = "<!-- tables: what stands up to the end mark is written by a program -->"
END: Final = "<!-- tables: end -->"

Records = Mapping[str, ResultRecord]
"""Records of one zoo by split."""
Cell = Callable[[DetectorFigures], str]


def write_report(records: Records, folder: Path, *, headline: str = "recipe") -> list[Path]:
    """Write README.md, table.csv and pareto.svg into a folder.

    What stands in README.md outside the marks of the tables is kept: readings are written by hand.

    Args:
        headline: the split that the further tables and the picture are of; the first there is, if
            it is not among the records.

    Raises:
        ValueError: there is no record, or no detector has a score.
        StorageError: a file could not be written.
    """
    if not records:
        raise ValueError("there is no record to report")
    chosen = headline if headline in records else next(iter(records))
    readme = folder / "README.md"
    before = readme.read_text("utf-8") if readme.is_file() else f"# Detectors\n\n{BEGIN}\n{END}\n"
    contents = {
        readme: _between_marks(before, report_markdown(records, chosen)),
        folder / "table.csv": report_csv(records),
        folder / "pareto.svg": pareto_plot(
            _points(records[chosen]), title=f"Cost and score, split {chosen}"
        ),
    }
    for path, text in contents.items():
        write_bytes(path, text.encode())
    return list(contents)


def report_markdown(records: Records, headline: str) -> str:
    """The tables: AUROC by split, then what the headline split says further."""
    record = records[headline]
    ranked = _ranked(record)
    ceilings = [one for one in record.detectors if one.ceiling]
    parts = [
        "## AUROC by split",
        "Mean over folds, with 95% intervals clustered by organism, then scenario. Detectors by "
        f"their AUROC in split {headline}, then floors. Contrast: it also sees each transcript "
        "with the unobserved cue in place of the observed one.",
        _splits_table(records, ranked),
    ]
    if ceilings:
        parts += [
            "### Ceilings",
            "They may read unobserved behaviour, which is what is to be detected: not ranked.",
            _splits_table(records, ceilings),
        ]
    parts += [
        f"## Split {headline}",
        "False positives on each class of lookalikes are at the threshold for 5% of the fit "
        "organisms' sincere cases. Tokens: what organisms read or wrote, over all fits and scores.",
        _table(
            ranked,
            {
                "over best floor": lambda one: _compared(one.excess_over_floor),
                "TPR@1%": lambda one: _short(one.tpr_at_1),
                "TPR@5%": lambda one: _short(one.tpr_at_5),
                "pairs": lambda one: _short(one.pair_accuracy),
                **{f"FPR {name}": _fpr(name) for name in LOOKALIKE_CLASSES},
                "thousand tokens": lambda one: f"{one.cost.tokens / 1000:,.0f}",
            },
        ),
        "## What access adds",
        "Uplift: AUROC over the best black-box detector that costs no more tokens, and over the "
        "best at any cost, on the same cases; those that see contrasts are compared only with "
        "white-box detectors that do. Reader: AUROC of a text classifier of the "
        "transcripts and of the organism's replies to the inputs that the detector used.",
        _table(
            [one for one in ranked if one.behaviour_reading or one.uplift_over_black_box],
            {
                "best black box that costs no more": lambda one: _rival(one.uplift_at_equal_budget),
                "over it": lambda one: _compared(one.uplift_at_equal_budget),
                "over the best at any cost": lambda one: _compared(one.uplift_over_black_box),
                "reader": lambda one: (
                    one.behaviour_reading.reader.format() if one.behaviour_reading else ""
                ),
                "over the reader": lambda one: (
                    _compared(one.behaviour_reading.difference) if one.behaviour_reading else ""
                ),
                "verdict": _verdict,
            },
        ),
        "## Cost and score",
        _front(record),
        "![AUROC against tokens](pareto.svg)",
        *_failures(records),
    ]
    return "\n\n".join(parts)


def report_csv(records: Records) -> str:
    """One line for each detector and split; an empty value is one that there is not."""
    out = io.StringIO()
    rows = [
        _csv_row(split, one, on_front(record.detectors))
        for split, record in records.items()
        for one in record.detectors
    ]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_row(split: str, one: DetectorFigures, front: Mapping[str, bool]) -> dict[str, str]:
    reading = one.behaviour_reading
    failed = "unavailable" if one.unavailable else "void" if one.error else ""
    row = {
        "detector": one.name,
        "split": split,
        "tier": one.tier,
        "contrast": "yes" if one.contrast else "no",
        "kind": "floor" if one.floor else "ceiling" if one.ceiling else "detector",
        "status": failed or "scored",
        **_spread("auroc", one.auroc),
        "cases": str(one.auroc.n),
        "organisms": "" if one.auroc.clusters is None else str(one.auroc.clusters),
        **_spread("tpr_at_1", one.tpr_at_1),
        **_spread("tpr_at_5", one.tpr_at_5),
        **_spread("pair_accuracy", one.pair_accuracy),
        **_spread("brier", one.brier),
        "best_floor": _rival(one.excess_over_floor, plain=True),
        **_spread("over_best_floor", _difference(one.excess_over_floor)),
    }
    for name in LOOKALIKE_CLASSES:
        row |= _spread(f"fpr_{name}", one.fpr_by_class.get(name))
    return row | {
        "queries": str(one.cost.queries),
        "forward_tokens": str(one.cost.forward_tokens),
        "generated_tokens": str(one.cost.generated_tokens),
        "fits": str(one.cost.fits),
        "on_front": {True: "yes", False: "no"}.get(front.get(one.name), ""),  # type: ignore[arg-type]
        "black_box_at_equal_budget": _rival(one.uplift_at_equal_budget, plain=True),
        **_spread("uplift_at_equal_budget", _difference(one.uplift_at_equal_budget)),
        "best_black_box": _rival(one.uplift_over_black_box, plain=True),
        **_spread("uplift_over_black_box", _difference(one.uplift_over_black_box)),
        **_spread("reader", reading.reader if reading else None),
        **_spread("over_reader", reading.difference.difference if reading else None),
        "verdict": (reading.verdict or "refused") if reading else "",
    }


def _spread(name: str, figure: Figure | None) -> dict[str, str]:
    ends = (figure.value, figure.low, figure.high) if figure else (None, None, None)
    keys = (name, f"{name}_low", f"{name}_high")
    return {
        key: "" if value is None else f"{value:.6g}" for key, value in zip(keys, ends, strict=True)
    }


def _between_marks(text: str, tables: str) -> str:
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        return f"{text.rstrip()}\n\n{BEGIN}\n\n{tables}\n\n{END}\n"
    return f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}"


def _ranked(record: ResultRecord) -> list[DetectorFigures]:
    """Detectors before floors, the best first; ceilings are left out."""
    ranked = [one for one in record.detectors if not one.ceiling]
    return sorted(ranked, key=lambda one: (one.floor, -(one.auroc.value or -1.0), one.name))


def _splits_table(records: Records, detectors: Sequence[DetectorFigures]) -> str:
    by_split = {
        split: {one.name: one for one in record.detectors} for split, record in records.items()
    }

    def column(split: str) -> Cell:
        def cell(one: DetectorFigures) -> str:
            there = by_split[split].get(one.name)
            if there is None:
                return ""
            return _failed(there) or there.auroc.format()

        return cell

    columns: dict[str, Cell] = {"tier": _access}
    return _table(detectors, columns | {split: column(split) for split in records})


def _table(detectors: Sequence[DetectorFigures], columns: Mapping[str, Cell]) -> str:
    lines = ["| detector | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for one in detectors:
        cells = [cell(one) for cell in columns.values()]
        lines.append(f"| `{one.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _fpr(name: str) -> Cell:
    return lambda one: _short(one.fpr_by_class[name]) if name in one.fpr_by_class else "n/a"


def _front(record: ResultRecord) -> str:
    front = on_front(record.detectors)
    able = sorted(
        (one for one in record.detectors if front.get(one.name)),
        key=lambda one: (one.cost.tokens, one.name),
    )
    lines = ["No other detector costs as little or less and scores more:", ""]
    lines += [
        f"- `{one.name}`{' (floor)' if one.floor else ''}: {one.cost.tokens / 1000:,.0f} thousand "
        f"tokens, AUROC {one.auroc.format()}"
        for one in able
    ]
    return "\n".join(lines)


def _failures(records: Records) -> list[str]:
    """What could not be scored, and why."""
    found: dict[str, list[str]] = {}
    for split, record in records.items():
        for one in record.detectors:
            reason = one.unavailable or one.error
            if reason:
                line = f"- `{one.name}`, {_failed(one)}: {reason}"
                found.setdefault(line, []).append(split)
    if not found:
        return []
    lines = [f"{line} ({', '.join(splits)})" for line, splits in found.items()]
    return ["## Not scored", "\n".join(lines)]


def _access(one: DetectorFigures) -> str:
    return f"{one.tier}, contrast" if one.contrast else one.tier


def _failed(one: DetectorFigures) -> str:
    return "unavailable" if one.unavailable else "void" if one.error else ""


def _verdict(one: DetectorFigures) -> str:
    reading = one.behaviour_reading
    if reading is None:
        return ""
    return reading.verdict or f"refused: {reading.reason}"


def _difference(comparison: Comparison | None) -> Figure | None:
    return comparison.difference if comparison else None


def _compared(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    tie = " tie" if comparison.tied and comparison.difference.value is not None else ""
    return comparison.difference.format() + tie


def _rival(comparison: Comparison | None, *, plain: bool = False) -> str:
    name = comparison.rival if comparison else None
    return "" if name is None else name if plain else f"`{name}`"


def _short(figure: Figure) -> str:
    return "n/a" if figure.value is None else f"{figure.value:.2f}"


def _points(record: ResultRecord) -> list[CostPoint]:
    front = on_front(record.detectors)
    return [
        CostPoint(
            one.name,
            one.tier,
            one.floor,
            one.cost.tokens,
            one.auroc.value,
            one.auroc.low,
            one.auroc.high,
            front[one.name],
        )
        for one in record.detectors
        if one.auroc.value is not None and not one.ceiling
    ]
