"""`afbench check`: runs the cells of baselines again and says what got worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from afbench.errors import AfbenchError, UnknownNameError
from afbench.regression.baseline import Baseline, Measured, load_baseline
from afbench.regression.comparison import Change, compare
from afbench.regression.matching import Matched, Scores, SharedCases, check_inputs, match
from afbench.regression.measuring import Bench, Chosen, choose_detectors, measure, plan_cells
from afbench.regression.metrics import METRICS, Metric, metric_of
from afbench.regression.paired import Procedure
from afbench.regression.report import Checked, Report

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog
    from afbench.models.user_model import UserModel
    from afbench.results.inputs import Plan
    from afbench.results.progress import Progress
    from afbench.store import Store

DEFAULT_METRIC: Final = "auroc"
DEFAULT_MAX_DROP: Final = 0.02
"""Twice what another seed of the probe takes off on average (docs/regression-checks.md)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is checked.

    Attributes:
        baselines: files.
        detectors: names or folders; none is those of each baseline.
        against: the baseline's detector that they are compared with; None is that of the same
            name, or the only one there is.
        metrics: names.
        max_drop: what is tolerated: numbers for all metrics, or METRIC=NUMBER for one.
    """

    baselines: Sequence[Path]
    detectors: Sequence[str] = ()
    against: str | None = None
    metrics: Sequence[str] = (DEFAULT_METRIC,)
    max_drop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """What checks are run with.

    Attributes:
        backend, device, dtype: None is what the baseline was made on.
        model: what the prompted organisms of a baseline are put on.
        jobs: processes that score folds.
    """

    catalog: Catalog
    store: Store
    progress: Progress
    model: UserModel | None = None
    jobs: int = 1
    backend: str | None = None
    device: str | None = None
    dtype: str | None = None

    def bench(self, versions: dict[str, str]) -> Bench:
        """The machine as a baseline needs it, by what the baseline was computed with.

        Raises:
            AfbenchError: it cannot be had here.
        """
        from afbench.vllm_backend.choice import choose

        dtype = self.dtype or versions.get("dtype", "float32").removeprefix("torch.")
        local = choose(
            self.backend or versions.get("backend", "transformers"),
            self.device or versions.get("device", "cpu"),
            dtype,
            jobs=self.jobs,
        )
        return Bench(self.catalog, self.store, self.progress, local, self.model, self.jobs)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A baseline whose cells can be run again."""

    path: Path
    baseline: Baseline
    rivals: dict[str, str]
    plan: Plan
    bench: Bench


@dataclass(frozen=True, slots=True)
class _Again:
    """A baseline whose cells were run again."""

    path: Path
    baseline: Baseline
    rivals: dict[str, str]
    now: Measured
    matched: Matched


def check(question: Question, machine: Machine) -> Report:
    """Compare detectors with their baselines.

    All that can be looked up is looked up before the first one runs.

    Raises:
        AfbenchError: it cannot be done: a file is damaged, a name unknown, the organisms or too
            many cases changed, a detector gives no scores, or a metric has too few cases.
    """
    metrics = [metric_of(name) for name in dict.fromkeys(question.metrics)]
    tolerated = tolerances(question.max_drop, [metric.name for metric in metrics])
    prepared = [_prepared(path, question, machine) for path in dict.fromkeys(question.baselines)]
    again = [_run_again(one) for one in prepared]
    count = len(metrics) * sum(len(one.rivals) for one in again)
    return Report(
        versions=again[0].now.versions,
        checked=[_compared(one, metrics, tolerated, count) for one in again],
    )


def tolerances(given: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    """The tolerated drop of each metric.

    Args:
        given: "0.05" for all metrics, or "auroc=0.05" for one.

    Raises:
        AfbenchError: no number between 0 and 1, or a metric that is not compared.
    """
    found = dict.fromkeys(metrics, DEFAULT_MAX_DROP)
    own: dict[str, float] = {}
    for text in given:
        name, separator, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise AfbenchError(
                f"'{number}' is no drop between 0 and 1",
                where="--max-drop",
                fix="give a number as 0.05, or auroc=0.05 for one metric",
            )
        if not separator:
            found = dict.fromkeys(metrics, value)
        elif name in metrics:
            own[name] = value
        elif name in METRICS:
            raise AfbenchError(
                f"'{name}' is not compared", where="--max-drop", fix=f"add --metric {name}"
            )
        else:
            raise UnknownNameError("metric", name, METRICS)
    return found | own


def _prepared(path: Path, question: Question, machine: Machine) -> _Prepared:
    baseline = load_baseline(path)
    chosen = _chosen(baseline, path, question, machine.catalog)
    rivals = {name: _rival(name, baseline, path, question.against) for name in chosen.plugins}
    if baseline.model is not None and machine.model is None:
        raise AfbenchError(
            f"the organisms of the baseline are prompts on '{baseline.settings.model}'",
            where=str(path),
            fix="give it with --model",
        )
    folds = [fold.as_fold() for fold in baseline.folds]
    bench = machine.bench(baseline.versions)
    plan = plan_cells(baseline.settings, folds, chosen, bench)
    check_inputs(baseline, plan.inputs, where=str(path))
    return _Prepared(path, baseline, rivals, plan, bench)


def _run_again(one: _Prepared) -> _Again:
    now = measure(one.plan, one.bench)
    matched = match(one.baseline, now, where=str(one.path))
    return _Again(one.path, one.baseline, one.rivals, now, matched)


def _chosen(baseline: Baseline, path: Path, question: Question, catalog: Catalog) -> Chosen:
    given = list(question.detectors) or list(baseline.detectors)
    for name in given:
        if not question.detectors and "@" in name and name not in catalog.detectors:
            raise AfbenchError(
                f"'{name}' was fitted before the baseline was made, and lies in a folder",
                where=str(path),
                fix="give the folder with --detector",
            )
    return choose_detectors(given, catalog)


def _rival(name: str, baseline: Baseline, path: Path, against: str | None) -> str:
    known = list(baseline.detectors)
    if against is not None:
        if against not in known:
            raise UnknownNameError("detector of the baseline", against, known)
        return against
    if name in known:
        return name
    if len(known) == 1:
        return known[0]
    raise AfbenchError(
        f"the baseline has no '{name}'",
        where=str(path),
        fix=f"say with --against which it is compared with: {', '.join(known)}",
    )


def _compared(
    one: _Again, metrics: Sequence[Metric], tolerated: dict[str, float], comparisons: int
) -> Checked:
    baseline, now, matched = one.baseline, one.now, one.matched
    cases = SharedCases.of(baseline, matched.before)
    settings = baseline.settings
    procedure = Procedure(comparisons, settings.seed, settings.replicates)
    changes: list[Change] = []
    for name, rival in one.rivals.items():
        before = Scores.of(baseline.detectors[rival], baseline.cases.fold, matched.before)
        today = Scores.of(now.detectors[name], now.cases.fold, matched.now)
        changes += [
            compare(
                metric,
                cases,
                before,
                today,
                names=(name, rival),
                allowed=tolerated[metric.name],
                procedure=procedure,
            )
            for metric in metrics
        ]
    return Checked(
        baseline=str(one.path),
        digest=baseline.digest,
        record=baseline.record,
        created=baseline.created,
        versions=baseline.versions,
        organism=settings.organism,
        split=settings.split,
        cases=len(cases),
        organisms=len(cases.names),
        changes=changes,
        notes=_notes(one),
    )


def _notes(one: _Again) -> list[str]:
    notes = [
        f"{name}: its code and manifest are those of the baseline"
        for name, rival in one.rivals.items()
        if one.now.detectors[name].digest == one.baseline.detectors[rival].digest
    ]
    before, now = one.baseline.versions, one.now.versions
    moved = [
        f"{name} {before.get(name, 'absent')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if moved:
        notes.append(
            f"the baseline was made with {', '.join(moved)}; its cases are the same, and the "
            "figures of both sides are computed by this version"
        )
    if one.matched.note:
        notes.append(one.matched.note)
    return notes
