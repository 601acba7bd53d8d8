"""Checks of a plug-in's folder that need nothing but its files.

The checks of each kind's contract, which load and run a plug-in, are in `afbench.contract`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.catalog.manifests import Kind, Manifest, load_manifest, manifest_kind
from afbench.catalog.yaml_files import display, dotted, path_problem, read_text
from afbench.errors import AfbenchError

CARD = "card.md"


@dataclass(frozen=True)
class Check:
    """One thing that was checked. `message` says what is wrong, or what was found."""

    name: str
    passed: bool
    message: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What a check of one plug-in found.

    Attributes:
        kind: None when the folder holds no manifest.
    """

    folder: Path
    kind: Kind | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True when every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[str]:
        """One line for every check that failed."""
        return [f"{check.name}: {check.message}" for check in self.checks if not check.passed]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = [
            {"name": check.name, "passed": check.passed, "message": check.message}
            for check in self.checks
        ]
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "passed": self.passed,
            "checks": checks,
        }


def check_files(folder: Path) -> tuple[CheckReport, Manifest | None]:
    """Check the manifest, the card and every path of a plug-in's folder.

    Returns:
        The report, and the manifest (None when it does not load; there is nothing more to check).
    """
    kind = manifest_kind(folder)
    try:
        manifest = load_manifest(folder)
    except AfbenchError as error:
        return CheckReport(folder, kind, (Check("manifest", False, str(error)),)), None
    checks = (Check("manifest", True), _check_card(folder), _check_paths(folder, manifest))
    return CheckReport(folder, kind, checks), manifest


def _check_card(folder: Path) -> Check:
    try:
        text = read_text(folder / CARD)
    except AfbenchError as error:
        return Check("card", False, str(error))
    return Check("card", bool(text.strip()), "" if text.strip() else f"{CARD} is empty")


def _check_paths(folder: Path, manifest: Manifest) -> Check:
    for loc, relative in manifest.paths().items():
        if not (folder / relative).exists():
            missing = display(folder / relative)
            return Check("paths", False, f"field '{dotted(loc)}': {missing} does not exist")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            problem = path_problem(folder, str(path.relative_to(folder)))
            if problem:
                return Check("paths", False, problem)
    return Check("paths", True)
