"""Checking one plug-in: its files first, then the contract of its kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from afbench.catalog.check import Check, CheckReport, check_files
from afbench.catalog.discovery import discover
from afbench.catalog.manifests import DetectorManifest, EnvironmentManifest, Manifest


def check_plugin(folder: Path, plugins: Sequence[Path] = ()) -> CheckReport:
    """Check a plug-in's folder. A detector's code is imported and run, in this process.

    Args:
        folder: holds the manifest.
        plugins: where to look for what the plug-in refers to, such as an organism's parent.

    Returns:
        One `Check` for each thing checked; the contract's are left out where files are missing.

    Raises:
        AfbenchError: `plugins` cannot be searched. What is wrong with the plug-in is not raised,
            it is in the report.
    """
    report, manifest = check_files(folder)
    if manifest is None or not _loadable(report):
        return report
    contract = _check_contract(manifest, folder, plugins)
    return dataclasses.replace(report, checks=(*report.checks, *contract))


def _loadable(report: CheckReport) -> bool:
    """A missing card is a failure, but hides nothing else that is wrong."""
    return all(check.passed for check in report.checks if check.name != "card")


def _check_contract(manifest: Manifest, folder: Path, plugins: Sequence[Path]) -> list[Check]:
    # Each kind needs other libraries, and only one kind is checked.
    if isinstance(manifest, DetectorManifest):
        from afbench.contract.detector_checks import check_detector

        return check_detector(manifest, folder)
    if isinstance(manifest, EnvironmentManifest):
        from afbench.contract.environment_checks import check_environment

        return check_environment(manifest, folder)
    from afbench.contract.organism_checks import check_organism

    return check_organism(manifest, folder, discover(plugins))
