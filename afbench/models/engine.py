"""What computes: versions of everything that a number depends on, without importing any of it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from afbench import __version__

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn")


@cache
def engine_versions() -> dict[str, str]:
    """Versions by package, Python's and afbench's own included."""
    found = {"python": platform.python_version(), "afbench": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
