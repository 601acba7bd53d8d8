"""The GitHub Action: its script as bash runs it, with the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.regression.drawn import as_baseline, made_up

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
CHECK = next(step for step in STEPS if step.get("id") == "check")


def run_check(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The step of that id, with inputs as the runner hands them over."""
    command = folder / "bin" / "afbench"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m afbench.cli.app "$@"\n')
    command.chmod(0o755)
    inputs = dict.fromkeys(CHECK["env"], "") | {"JOBS": "1"} | given
    environment = {
        **os.environ, **inputs, "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT), "AFBENCH_CACHE": str(folder / "cache"),
        "REPORT": str(folder / "report.md"), "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
    }  # fmt: skip
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", CHECK["run"]],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_it_is_a_composite_action_whose_inputs_and_outputs_are_described() -> None:
    assert ACTION["runs"]["using"] == "composite"
    for part in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert part["description"]
    assert ACTION["inputs"]["baseline"]["required"]
    assert all(step.get("shell") == "bash" for step in STEPS if "run" in step)


def test_every_input_is_used_and_none_is_a_part_of_a_script() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    for name in ACTION["inputs"]:
        assert f"${{{{ inputs.{name} }}}}" in text, name
    assert not [step for step in STEPS if "${{" in step.get("run", "")]


def test_the_constraints_that_it_installs_by_hold_a_version_of_torch() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert sum(line.startswith("torch==") for line in lines) == 1


def test_a_check_that_could_not_run_says_so_in_the_summary_and_the_outputs(tmp_path: Path) -> None:
    as_baseline(made_up({"probe": [0.0] * 8})).save(tmp_path / "mine.json")
    done = run_check(tmp_path, BASELINE="mine.json\n", METRIC="auroc\nbrier", MAX_DROP="brier=0.1")
    assert done.returncode == 2, done.stderr
    assert "unknown organism 'faker'" in done.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert outputs["verdict"] == "could not run"
    assert Path(outputs["report"]).read_text() == (tmp_path / "summary").read_text()
    assert "could not run\n\nunknown organism 'faker'" in (tmp_path / "summary").read_text()


def test_no_input_is_run_as_code(tmp_path: Path) -> None:
    evil = '$(touch evil)\n`touch evil`\n; touch evil\n"; touch evil; "\n*'
    done = run_check(tmp_path, BASELINE=evil, DETECTOR=evil, METRIC="auroc", JUNIT="report.xml")
    assert done.returncode == 2
    assert "no such file ($(touch evil))" in done.stderr
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "report.xml").exists()
