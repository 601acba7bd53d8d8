"""`afbench submit`: check a submission, run it on the public zoo, and write a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.detection.loading import detector_digest
from afbench.errors import AfbenchError, SubmissionError
from afbench.submission.bundle import BundleManifest, write_bundle
from afbench.submission.folder import copied

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog
    from afbench.results.progress import Progress
    from afbench.results.record import ResultRecord, RunSettings
    from afbench.results.run import Options
    from afbench.store import Store
    from afbench.submission.folder import Submission


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of a submission: its run, and the bundle that was written."""

    record: ResultRecord
    reused: bool
    bundle: Path
    manifest: BundleManifest


def check_contract(submission: Submission, plugins: Sequence[Path] = ()) -> None:
    """Run the checks of `afbench check-plugin` on a submission. Runs its code in this process.

    Raises:
        SubmissionError: one fails, such as an import of what is not installed.
    """
    from afbench.contract import check_plugin

    report = check_plugin(submission.plugin.folder, plugins)
    if not report.passed:
        more = f" (and {len(report.failures) - 1} more)" if len(report.failures) > 1 else ""
        raise SubmissionError(
            f"{report.failures[0]}{more}",
            where=submission.plugin.name,
            fix="'afbench check-plugin DIR' shows every check",
        )


def added_to(catalog: Catalog, submission: Submission) -> Catalog:
    """The catalog with a submission's detector, in place of the same one where it is there.

    Raises:
        SubmissionError: another detector has its name.
    """
    plugin = submission.plugin
    other = catalog.detectors.get(plugin.name)
    if other is not None and not _same(other.folder, submission):
        raise SubmissionError(
            f"another detector is named '{plugin.name}'",
            where="detector.yaml",
            fix="rename yours, and its folder",
        )
    return replace(catalog, detectors={**catalog.detectors, plugin.name: plugin})


def submit(
    submission: Submission,
    settings: RunSettings,
    catalog: Catalog,
    store: Store,
    runs: Path,
    into: Path,
    progress: Progress,
    options: Options | None = None,
) -> Submitted:
    """Run a submission on the public zoo and write its bundle.

    A run that is there already is read back. The code is run in this process unless the options
    say otherwise.

    Args:
        settings: of the run; its detectors are replaced by the submitted one.
        runs: where runs are written.
        into: the folder of the bundle, whose name has the detector's and the run's.

    Raises:
        SubmissionError: the detector breaks its contract in the run, or another has its name.
        AfbenchError: as for a run.
    """
    from afbench.results.run import run

    name = submission.plugin.name
    chosen = settings.model_copy(update={"detectors": [name]})
    outcome = run(chosen, added_to(catalog, submission), store, runs, progress, options)
    row = next(one for one in outcome.record.detectors if one.name == name)
    problem = row.error or row.unavailable
    if problem:
        raise SubmissionError(f"it has no score: {problem}", where=name)
    _check_tokens(submission, row.cost.tokens)
    path = into / f"{name}-{outcome.record.id[:8]}.tar.gz"
    manifest = write_bundle(path, submission, outcome.path.parent)
    return Submitted(outcome.record, outcome.reused, path, manifest)


def _check_tokens(submission: Submission, spent: int) -> None:
    declared = submission.manifest.budget.tokens
    if declared is not None and spent > declared:
        raise SubmissionError(
            f"it took {spent:,} tokens, and declares {declared:,}",
            where="submission.yaml, field 'budget.tokens'",
            fix="declare what it takes",
        )


def _same(folder: Path, submission: Submission) -> bool:
    """Whether a folder holds the code that is submitted."""
    try:
        with copied(folder) as plugin:
            return detector_digest(plugin) == submission.manifest.code_digest
    except AfbenchError:
        return False
