"""Data flows one way: no package imports one that stands after it, and heavy imports stay out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "afbench"

# In the order of docs/architecture.md; a package may import itself and what stands before it.
ORDER = [
    "errors", "messages", "store", "metrics", "catalog", "environments", "models", "remote",
    "vllm_backend", "rollouts", "cases", "judging", "detection", "sandbox", "certification",
    "figures", "results", "contract", "regression", "zoo", "submission", "leaderboard", "server",
    "site", "importers", "cli",
]  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level parts of afbench that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "afbench":
                names = [f"afbench.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "afbench" and len(parts) > 1 and parts[1] in ORDER:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own not in ORDER:
        assert own in ("__init__", "__main__", "_catalog"), f"{own} has no place in the order"
        return
    later = {name for name in imported(path) if ORDER.index(name) > ORDER.index(own)}
    assert not later


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 420


def test_the_engine_names_no_plug_in() -> None:
    root = PACKAGE.parent
    names = {
        folder.name
        for kind in ("organisms", "environments")
        for folder in (root / kind).iterdir()
        if folder.is_dir() and folder.name != "__pycache__"
    }
    names |= {f.name for f in (root / "detectors").iterdir() if "-" in f.name}
    for path in MODULES:
        text = path.read_text("utf-8")
        assert not [name for name in names if f'"{name}"' in text], path
