"""`afbench baseline save`: a baseline from a result record, by running its cells once more.

A record's scores lie beside it, but not what thresholds and probabilities follow from, nor what the
cases said. The cells are therefore run again, which the cache answers, and must give the record's
scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from afbench.cases.splits import Fold
from afbench.errors import AfbenchError, UnknownNameError
from afbench.regression.baseline import Baseline, Measured
from afbench.regression.check import Machine
from afbench.regression.measuring import Chosen, choose_detectors, measure, plan_cells
from afbench.results.record import ResultRecord, RunSettings, load_record
from afbench.results.run import Options, run
from afbench.results.score_file import read_scores
from afbench.vllm_backend.choice import LOCAL

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog

RECORD: Final = "result.json"
# Scores are the same up to this, by their spread: sums of floats differ in their last digits.
_TOLERANCE = 1e-5


def run_and_save(
    settings: RunSettings, machine: Machine, runs: Path, *, fresh: bool = False
) -> Baseline:
    """Run detectors and make a baseline of the run.

    Args:
        settings: its `detectors` are names or folders.
        runs: where the run's record is written.
        fresh: evaluate the run again even if its record is there.

    Raises:
        AfbenchError: as `afbench run`, or as `baseline_of`.
    """
    chosen = choose_detectors(settings.detectors, machine.catalog)
    # Saved detectors are named by their folder in a run, others by their name in the catalog.
    folders = {name: str(one.folder) for name, one in chosen.saved.items()}
    settings = settings.model_copy(
        update={"detectors": [folders.get(name, name) for name in chosen.plugins]}
    )
    bench = machine.bench({})
    options = Options(machine.model, fresh=fresh, jobs=machine.jobs, local=bench.local)
    catalog = _with(chosen, machine.catalog)
    outcome = run(settings, catalog, machine.store, runs, machine.progress, options)
    return baseline_of(outcome.path, machine, chosen)


def baseline_of(path: Path, machine: Machine, chosen: Chosen | None = None) -> Baseline:
    """A baseline from a run's record.

    Args:
        path: the record, or its folder.
        chosen: detectors of the run; None is all that it was asked for.

    Raises:
        AfbenchError: the record is damaged or of a remote backend, a detector has no scores in it
            or has changed since, or the run cannot be repeated here.
    """
    path = path / RECORD if path.is_dir() else path
    record = load_record(path)
    _check_backend(record, path)
    chosen = chosen or choose_detectors(_asked(record), machine.catalog)
    _check_detectors(record, chosen, path)
    cues = ("fit", "test") if record.settings.split == "cue" else (None, None)
    folds = [
        Fold(name, tuple(sides["fit"]), tuple(sides["test"]), *cues)
        for name, sides in record.folds.items()
    ]
    bench = machine.bench(record.inputs.versions)
    measured = measure(plan_cells(record.settings, folds, chosen, bench), bench)
    _check_scores(measured, path.parent / record.scores)
    return Baseline(
        **dict(measured),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=record.digest,
    ).with_digest()


def _with(chosen: Chosen, catalog: Catalog) -> Catalog:
    """A catalog that holds the detectors of folders too; they take the place of their namesakes."""
    own = {name: one for name, one in chosen.plugins.items() if name not in chosen.saved}
    return replace(catalog, detectors={**catalog.detectors, **own})


def _asked(record: ResultRecord) -> list[str]:
    """The detectors that a run was asked for and that have scores; floors only by their name."""
    named = set(record.settings.detectors)
    found = [
        one.name
        for one in record.detectors
        if (one.name in named or not one.floor) and not (one.error or one.unavailable)
    ]
    if not found:
        raise AfbenchError("no detector of the run has scores", where=record.id)
    return found


def _check_backend(record: ResultRecord, path: Path) -> None:
    backend = record.spending.backend if record.spending else LOCAL[0]
    if backend not in LOCAL:
        raise AfbenchError(
            f"the organisms of the run answered through '{backend}', and every check would pay "
            "for them again",
            where=str(path),
            fix="make a baseline of a run on this machine",
        )


def _check_detectors(record: ResultRecord, chosen: Chosen, path: Path) -> None:
    rows = {one.name: one for one in record.detectors}
    for name in chosen.plugins:
        if name not in rows:
            raise UnknownNameError("detector of the run", name, rows)
        failed = rows[name].error or rows[name].unavailable
        if failed:
            raise AfbenchError(f"'{name}' has no scores in the run: {failed}", where=str(path))


def _check_scores(measured: Measured, path: Path) -> None:
    """Whether a rerun gave the scores that lie beside a record."""
    found = read_scores(path)
    cases = [(one.fold, one.organism, one.scenario, one.cue, one.label) for one in found.cases]
    columns = measured.cases
    ours = zip(
        columns.fold, columns.organism, columns.scenario, columns.cue, columns.label, strict=True
    )
    same = cases == list(ours) and all(
        _alike(found.scores.get(name, []), given.scores)
        for name, given in measured.detectors.items()
    )
    if not same:
        raise AfbenchError(
            "the run gives other scores here and now than it did: the detector, the organisms or "
            "what computes has changed",
            where=str(path),
            fix="make the baseline by running: name --detector and --organism instead of --run",
        )


def _alike(recorded: Sequence[float], ours: Sequence[float]) -> bool:
    if len(recorded) != len(ours):
        return False
    limit = _TOLERANCE * max(float(np.std(recorded)), 1e-12)
    return bool(np.allclose(recorded, ours, rtol=0, atol=limit))
