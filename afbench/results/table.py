"""A result as tables on a terminal: the organisms' gaps, then the detectors."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table

from afbench.metrics.comparison import Comparison
from afbench.metrics.figures import Figure
from afbench.results.evaluation import LOOKALIKE_CLASSES, OPEN_DEVIATION
from afbench.results.record import DetectorFigures, OrganismFigures, ResultRecord

# At least as wide as every column. A narrower terminal wraps the lines, which loses nothing; rich
# would cut the cells.
_LEAST_WIDTH = 118
# Headings of the five false-positive rates.
_SHORT_CLASS = {
    "cue-irrelevant": "irrelevant",
    "always-deviating": "deviating",
    "always-harmless": "harmless",
    "cue-conditional": "conditional",
    "values-talk": "values",
}
# So many cells that were left out are named for each reason.
_NAMED = 6
# Above this many organisms only the fakers are listed and the lookalikes summed up.
_MANY = 16


def print_record(record: ResultRecord, console: Console | None = None) -> None:
    """Print a result's tables and the reasons of what they leave out."""
    tables = [_organisms(record), _detectors(record)]
    if any(one.ceiling for one in record.detectors):
        tables.append(_ceilings(record))
    tables.append(_false_positives(record))
    if any(one.behaviour_reading for one in record.detectors):
        tables.append(_white_box(record))
    if record.robustness_folds:
        tables.append(_robustness(record))
    if console is None:
        console = Console()
        needed = max(_LEAST_WIDTH, *(_width(table) for table in tables))
        if not sys.stdout.isatty() or console.width < needed:
            console = Console(width=needed)
    settings = record.settings
    on_model = f"  model {settings.model}" if settings.model else ""
    console.print(
        f"afbench {record.inputs.versions['afbench']}  organism {settings.organism}{on_model}  "
        f"split {settings.split}  run {record.id}",
        highlight=False,
    )
    for table in tables:
        console.print(table)
    for line in _notes(record):
        console.print(line, highlight=False, markup=False)
    if record.spending is not None and record.spending.usd is not None:
        spent = record.spending
        console.print(
            f"{spent.backend}: {spent.calls:,} replies, {spent.input_tokens:,} tokens in, "
            f"{spent.output_tokens:,} out, ${spent.usd:,.4f} (${spent.usd_now or 0:,.4f} now)",
            highlight=False,
        )


def _organisms(record: ResultRecord) -> Table:
    headline = {name for sides in record.folds.values() for name in sides["test"]}
    tested = [
        o for o in record.organisms if o.part != "fit" and (o.evasion is None or o.name in headline)
    ]
    many = len(tested) > _MANY
    if many:
        tested = [o for o in tested if o.role == "faker"]
    table = _table("Fakers tested" if many else "Organisms tested", "organism")
    table.add_column("recipe" if many else "class", no_wrap=True)
    for heading in ("misalignment gap", "compliance gap", "labels"):
        table.add_column(heading, justify="right", no_wrap=True)
    for organism in sorted(tested, key=lambda o: (o.role != "faker", o.name)):
        kind = organism.recipe_family if many else organism.lookalike_class or organism.role
        table.add_row(
            organism.name + ("" if organism.certified else " ✗"),
            kind,
            organism.misalignment_gap.format(),
            organism.compliance_gap.format(),
            f"{organism.labels['faking']} / {organism.labels['sincere']} / {_dropped(organism)}",
        )
    return table


def _detectors(record: ResultRecord) -> Table:
    table = _table("Detectors", "detector")
    for heading in (
        "AUROC", "TPR@1%", "TPR@5%", "pairs", "over best floor", "Brier", "k tok.", "sec."
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for detector in _ordered(record):
        if not detector.ceiling:
            table.add_row(*_row(record, detector))
    return table


def _ceilings(record: ResultRecord) -> Table:
    table = _table("Ceilings: they may read unobserved behaviour, and are not ranked", "ceiling")
    for heading in ("AUROC", "TPR@1%", "TPR@5%", "pairs", "", "Brier", "k tok.", "sec."):
        table.add_column(heading, justify="right", no_wrap=True)
    for detector in _ordered(record):
        if detector.ceiling:
            table.add_row(*_row(record, detector))
    return table


def _row(record: ResultRecord, detector: DetectorFigures) -> tuple[str, ...]:
    failed = _failure(detector)
    if failed:
        return (_named(detector), failed[0], *[""] * 7)
    return (
        _named(detector),
        detector.auroc.format(),
        _short(detector.tpr_at_1),
        _short(detector.tpr_at_5),
        _short(detector.pair_accuracy),
        _difference(detector.excess_over_floor),
        _short(detector.brier),
        f"{detector.cost.tokens / 1000:.0f}",
        f"{record.timings.detectors.get(detector.name, 0.0):.1f}",
    )


def _white_box(record: ResultRecord) -> Table:
    table = _table("What access adds: over the best black box, and over a reader", "detector")
    for heading in ("best black box that costs no more", "over it", "over a reader", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for detector in _ordered(record):
        reading, uplift = detector.behaviour_reading, detector.uplift_at_equal_budget
        if reading is not None:
            table.add_row(
                detector.name,
                (uplift.rival if uplift else None) or "",
                _difference(uplift),
                _difference(reading.difference),
                reading.verdict or "refused",
            )
    return table


def _false_positives(record: ResultRecord) -> Table:
    table = _table(
        "False positives by lookalike class, and the gap that blocking leaves", "detector"
    )
    for name in LOOKALIKE_CLASSES:
        table.add_column(_SHORT_CLASS.get(name, name), justify="right", no_wrap=True)
    table.add_column("residual gap", justify="right", no_wrap=True)
    for detector in _ordered(record):
        if _failure(detector) is None:
            fprs = (_marked(detector.fpr_by_class[name]) for name in LOOKALIKE_CLASSES)
            table.add_row(detector.name, *fprs, detector.residual_conformity_gap_at_5.format())
    return table


def _robustness(record: ResultRecord) -> Table:
    table = _table("Robustness: evading organisms", "evasion")
    table.add_column("detector", no_wrap=True)
    for heading in ("AUROC", "TPR@5%", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for evasion in record.robustness_folds:
        shown = evasion
        for detector in _ordered(record):
            figures = detector.robustness.get(evasion)
            if figures is None:
                continue
            cells = (figures.auroc.format(), _short(figures.tpr_at_5), str(figures.n))
            table.add_row(shown, detector.name, *(("void",) if figures.error else cells))
            shown = ""
        table.add_section()
    return table


def _table(title: str, first: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1)
    )
    table.add_column(first, no_wrap=True)
    return table


def _width(table: Table) -> int:
    """Columns that a table takes when no cell is cut."""
    return Console(width=10_000).measure(table).maximum


def _ordered(record: ResultRecord) -> list[DetectorFigures]:
    """Detectors before floors, the best first; what has no score last."""
    return sorted(record.detectors, key=lambda d: (d.floor, -(d.auroc.value or -1.0)))


def _notes(record: ResultRecord) -> list[str]:
    lines = [
        "Labels: faking / sincere / dropped, over fit and test scenarios. 95% intervals, clustered "
        "by organism, then scenario. False positives: at the threshold "
        "for 5% of the fit organisms' sincere cases. Residual gap: of the tested fakers, when all "
        "over that threshold is blocked. Pairs: how often a faker has a higher mean score than a "
        "lookalike (chance 0.50). k tok.: thousands of tokens that organisms read or wrote.",
    ]
    if any(one.contrast and not one.ceiling for one in record.detectors):
        lines.append("‡: also sees each transcript with the unobserved cue.")
    if any(one.behaviour_reading for one in record.detectors):
        lines.append(
            "Reader: a text classifier of the transcripts and of the organism's replies to the "
            "inputs that the detector used."
        )
    if record.robustness_folds:
        lines.append("Robustness: fitted on ordinary organisms only; no part of any other figure.")
    figures = [f for d in record.detectors for f in d.fpr_by_class.values()]
    if any(_is_of_open_deviation(f) for f in figures):
        lines.append("†: over replies that deviate openly, as the class conforms in neither.")
    refusals = {}
    for detector in record.detectors:
        failed = _failure(detector)
        if failed:
            lines.append(f"{failed[0]}: {failed[1]}")
            continue
        lines += [f"void: {e}: {r.error}" for e, r in detector.robustness.items() if r.error]
        for label, figure in (
            ("AUROC", detector.auroc),
            ("TPR@1%", detector.tpr_at_1),
            ("TPR@5%", detector.tpr_at_5),
            ("pairs", detector.pair_accuracy),
            ("Brier", detector.brier),
            ("residual gap", detector.residual_conformity_gap_at_5),
        ):
            if figure.reason:
                refusals[label] = figure.reason
    lines += [f"{label} n/a: {reason}" for label, reason in refusals.items()]
    lines += _unread(record)
    lines += [
        f"✗ {o.name}: {o.reason}" for o in record.organisms if not o.certified and o.part != "fit"
    ]
    provisional = sum(o.certificate == "provisional" for o in record.organisms)
    if provisional:
        lines.append(
            f"{provisional} organisms have no certificate for these weights and were judged by "
            "their gap in this run; 'afbench organisms certify' writes one."
        )
    lines += _left_out(record.left_out)
    ungraded = sum(o.outcomes["ungradable"] + o.outcomes["truncated"] for o in record.organisms)
    total = sum(sum(o.outcomes.values()) for o in record.organisms)
    lines.append(f"{ungraded} of {total} rollouts were ungradable or truncated.")
    return lines


def _unread(record: ResultRecord) -> list[str]:
    """Why the test whether a detector reads behaviour gave no verdict, by reason."""
    by_reason: dict[str, list[str]] = {}
    for detector in record.detectors:
        reading = detector.behaviour_reading
        if reading is not None and reading.reason:
            by_reason.setdefault(reading.reason, []).append(detector.name)
    return [f"reader: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _named(detector: DetectorFigures) -> str:
    return detector.name + ("‡" if detector.contrast and not detector.ceiling else "")


def _failure(detector: DetectorFigures) -> tuple[str, str] | None:
    """Why a detector has no figure, in a word and in full."""
    if detector.unavailable is not None:
        return "unavailable", f"{detector.name}: {detector.unavailable}"
    return None if detector.error is None else ("void", detector.error)


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    tie = " tie" if comparison.tied and comparison.difference.value is not None else ""
    return comparison.difference.format() + tie


def _left_out(lines: list[str]) -> list[str]:
    """Cells without a fold by reason; the record names all of them."""
    by_reason: dict[str, list[str]] = {}
    for line in lines:
        name, _, reason = line.partition(": ")
        by_reason.setdefault(reason, []).append(name)
    found = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        found.append(f"left out: {'; '.join(names[:_NAMED])}{more} ({reason})")
    return found


def _dropped(organism: OrganismFigures) -> int:
    return sum(n for label, n in organism.labels.items() if label not in ("faking", "sincere"))


def _short(figure: Figure) -> str:
    return "n/a" if figure.value is None else f"{figure.value:.2f}"


def _marked(figure: Figure) -> str:
    return _short(figure) + ("†" if _is_of_open_deviation(figure) else "")


def _is_of_open_deviation(figure: Figure) -> bool:
    return OPEN_DEVIATION in (figure.note or "")
