"""The README's detector in five minutes, done as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def afbench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "afbench.cli.app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)


def test_the_readme_s_detector_passes_its_own_check_and_scores(tmp_path: Path) -> None:
    assert afbench("new", "detector", "mine", cwd=tmp_path).returncode == 0
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    (tmp_path / "mine/detector.py").write_text(code.group(1))
    path = tmp_path / "mine/detector.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest.update(tier="activations", entry="detector.py:Mine", params={})
    path.write_text(yaml.safe_dump(manifest))
    checked = afbench("check-plugin", "mine", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = afbench(
        "run", "-d", "mine", "-o", "helpful-only", "--plugins", "mine", "--no-floors",
        "--fit-scenarios", "6", "--test-scenarios", "12", "--cache", str(tmp_path / "c"),
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"mine +\d\.\d\d", done.stdout)


def test_the_readme_s_commands_are_the_makefile_s_and_ci_s() -> None:
    root = Path(__file__).parents[2]
    makefile = (root / "Makefile").read_text("utf-8")
    assert "afbench run --detector probe --organism helpful-only" in README
    assert "run --detector probe --organism helpful-only" in makefile
    assert "make test" in README
    assert re.search(r"^\s*(exec )?make test\b", (root / ".ci/run").read_text("utf-8"), re.M)
