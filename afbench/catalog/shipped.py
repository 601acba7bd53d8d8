"""Where the plug-ins that ship with afbench are."""

from __future__ import annotations

from pathlib import Path

from afbench.catalog.manifests import KINDS

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(package: Path = _PACKAGE) -> Path | None:
    """The folder that holds organisms/, environments/ and detectors/.

    In a wheel they ride inside the package, in a checkout they lie beside it.

    Args:
        package: the folder of the `afbench` package.

    Returns:
        None for an installation without plug-ins.
    """
    inside = package / "_catalog"
    if inside.is_dir():
        return inside
    checkout = package.parent
    holds_any = any((checkout / f"{kind}s").is_dir() for kind in KINDS)
    return checkout if holds_any and (checkout / "pyproject.toml").is_file() else None
