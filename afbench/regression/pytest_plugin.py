"""The pytest plug-in: a fixture that fails a test when a detector got worse than its baseline.

    def test_my_detector(afbench_check):
        afbench_check("baselines/mine.json", detector="detectors/mine")

It is loaded by every run of pytest where afbench is installed: what is heavy is imported when the
fixture is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from afbench.regression.check import Question
    from afbench.regression.report import Report


class AfbenchCheck(Protocol):
    """What the fixture gives."""

    def __call__(
        self,
        baseline: str | Path,
        *,
        detector: str | Path | None = None,
        against: str | None = None,
        metrics: Sequence[str] = ("auroc",),
        max_drop: float | Mapping[str, float] | None = None,
        plugins: Sequence[str | Path] = (),
        cache: str | Path | None = None,
        jobs: int = 1,
    ) -> Report:
        """Run a baseline's cells again; fails the test if a metric got worse or nothing could run.

        Args:
            baseline: the file; paths are taken from pytest's root folder.
            detector: a name, or the folder of a detector or of a saved one (default: those of the
                baseline).
            against: the baseline's detector to compare with.
            metrics: as `afbench check --metric`.
            max_drop: the drop that is tolerated, of all metrics or by metric.
            plugins: folders with further plug-ins.
            cache: the cache (default: AFBENCH_CACHE or the user's).
            jobs: processes that score folds.

        Returns:
            The report of a check that found nothing worse.
        """
        ...


@pytest.fixture
def afbench_check(request: pytest.FixtureRequest) -> AfbenchCheck:
    """Compares a detector with its baseline; see `AfbenchCheck` for the arguments."""
    root = request.config.rootpath

    def run(
        baseline: str | Path,
        *,
        detector: str | Path | None = None,
        against: str | None = None,
        metrics: Sequence[str] = ("auroc",),
        max_drop: float | Mapping[str, float] | None = None,
        plugins: Sequence[str | Path] = (),
        cache: str | Path | None = None,
        jobs: int = 1,
    ) -> Report:
        from afbench.regression.check import Question

        question = Question(
            baselines=[root / baseline],
            detectors=[] if detector is None else [_named(detector, root)],
            against=against,
            metrics=list(metrics),
            max_drop=_tolerated(max_drop),
        )
        folders = [root / folder for folder in plugins]
        report, shown = _checked(question, folders, None if cache is None else root / cache, jobs)
        request.node.add_report_section("call", "afbench check", shown)
        if report is None or report.worse:
            pytest.fail(shown, pytrace=False)
        return report

    return run


def _named(detector: str | Path, root: Path) -> str:
    """A folder under the root, or else the name of an installed detector."""
    folder = root / detector
    return str(folder) if folder.is_dir() else str(detector)


def _tolerated(max_drop: float | Mapping[str, float] | None) -> list[str]:
    if max_drop is None:
        return []
    if isinstance(max_drop, Mapping):
        return [f"{name}={value}" for name, value in max_drop.items()]
    return [str(max_drop)]


def _checked(
    question: Question, plugins: Sequence[Path], cache: Path | None, jobs: int
) -> tuple[Report | None, str]:
    """The report and its text; no report where the check could not run, and why."""
    from afbench.catalog.discovery import discover
    from afbench.errors import AfbenchError
    from afbench.regression.check import Machine, check
    from afbench.regression.report import text
    from afbench.results.progress import Silent
    from afbench.store import Store, default_cache

    try:
        store = Store(default_cache() if cache is None else cache)
        report = check(question, Machine(discover(plugins), store, Silent(), jobs=jobs))
    except AfbenchError as error:
        return None, f"afbench check could not run: {error}"
    return report, text(report)
