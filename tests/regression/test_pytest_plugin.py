"""The fixture as somebody's tests use it: pytest in a process and a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.regression.drawn import as_baseline, made_up

ROOT = Path(__file__).parents[2]
MODULE = "afbench.regression.pytest_plugin"


def run_pytest(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_mine.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\n")
    # Loaded by name and by nothing else, whether or not this checkout is installed anew.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", MODULE, "-q", "-p", "no:cacheprovider"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_it_is_an_entry_point_of_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"afbench": MODULE}


def test_loading_it_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "sklearn", "pydantic", "transformers", "typer")
    code = f"import sys, {MODULE}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_cannot_run_fails_in_one_line(tmp_path: Path) -> None:
    as_baseline(made_up({"probe": [0.0] * 8})).save(tmp_path / "mine.json")
    calls = {
        '"nowhere.json"': "could not run: not a usable baseline: there is no such file",
        '"mine.json", metrics=["aurox"]': "did you mean 'auroc'",
        '"mine.json", max_drop={"brier": 0.1}': "add --metric brier",
        '"mine.json", detector="nobodys"': "unknown detector 'nobodys'",
        '"mine.json", plugins=["nowhere"]': "nowhere does not exist",
    }
    tests = [
        f"def test_{number}(afbench_check):\n    afbench_check({call})\n"
        for number, call in enumerate(calls)
    ]
    done = run_pytest(tmp_path, "\n".join(tests))
    assert done.returncode == 1 and f"{len(calls)} failed" in done.stdout
    for line in calls.values():
        assert line in done.stdout
    assert "Traceback" not in done.stdout and "passed" not in done.stdout
