"""A baseline and its checks as a user runs them, on the real organisms."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from afbench.store import digest_of
from tests.e2e.test_run import FAKER, ROOT, SMALL, afbench

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PROBE = ROOT / "detectors" / "probe"
SHIPPED = sorted((ROOT / "leaderboard" / "baselines").glob("*.json"))
# The probe that reads layer 0, the embedding, in place of the layers above.
DAMAGE = ("range(1, layers)", "range(1)")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check")


@pytest.fixture(scope="module")
def baseline(cache: Path) -> Path:
    """A small baseline of the probe, made by running it."""
    done = afbench(
        "baseline", "save", "-d", "probe", "-o", FAKER, *SMALL, "--into", "probe.json", cache=cache
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Saved: probe.json. Next: afbench check")
    return cache / "probe.json"


def copy_of_probe(folder: Path, *, code: tuple[str, str] | None = None, seed: int = 0) -> Path:
    target = folder / "probe"
    shutil.copytree(PROBE, target, ignore=shutil.ignore_patterns("__pycache__"))
    if code is not None:
        file = target / "detector.py"
        assert file.read_text().count(code[0]) == 1
        file.write_text(file.read_text().replace(*code))
    manifest = target / "detector.yaml"
    manifest.write_text(manifest.read_text().replace("params:\n", f"params:\n  seed: {seed}\n"))
    return target


def edited(baseline: Path, folder: Path, **fields: Any) -> Path:
    """A copy of a baseline with other fields, and a digest that fits them."""
    content = json.loads(baseline.read_text()) | fields
    kept = {name: value for name, value in content.items() if name not in ("created", "digest")}
    path = folder / "edited.json"
    path.write_text(json.dumps(content | {"digest": digest_of(kept)}))
    return path


def test_the_same_detector_is_not_worse(baseline: Path, cache: Path) -> None:
    done = afbench("check", "--baseline", "probe.json", "--json", cache=cache)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "not worse"
    [change] = found["checked"][0]["changes"]
    assert (change["drop"], change["low"], change["high"]) == (0, 0, 0)
    assert change["before"] > 0.9 and change["detectable"] > 0.02
    assert "its code and manifest are those of the baseline" in found["checked"][0]["notes"][0]


def test_a_damaged_detector_is_worse_and_every_report_says_where(
    baseline: Path, cache: Path, tmp_path: Path
) -> None:
    damaged = copy_of_probe(tmp_path, code=DAMAGE)
    done = afbench(
        "check", "--baseline", "probe.json", "-d", str(damaged), "--metric", "auroc", "--metric",
        "brier", "--markdown", "out.md", "--junit", "out.xml", cache=cache,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "Verdict: worse."
    [line] = [one for one in done.stdout.splitlines() if one.startswith("worse: probe: auroc")]
    assert "is tolerated; most on desk-" in line
    shown = (cache / "out.md").read_text()
    assert shown.startswith("### afbench check: worse") and "❌ worse" in shown
    suite = ElementTree.fromstring((cache / "out.xml").read_text())[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert "probe auroc" in failed and suite.get("tests") == "2"


def test_another_seed_is_not_worse(baseline: Path, cache: Path, tmp_path: Path) -> None:
    reseeded = copy_of_probe(tmp_path, seed=1)
    done = afbench("check", "--baseline", "probe.json", "-d", str(reseeded), cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "Verdict: not worse."
    assert "its code and manifest" not in done.stdout


def test_a_baseline_of_a_finished_run_is_that_of_running_it(baseline: Path, cache: Path) -> None:
    [record] = cache.glob("runs/*/result.json")
    done = afbench(
        "baseline", "save", "--run", str(record.parent), "--into", "again.json", cache=cache
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(path.read_text()) for path in (baseline, cache / "again.json"))
    assert first["digest"] == second["digest"]
    assert first["record"] == json.loads(record.read_text())["digest"]


def test_a_baseline_of_another_version_is_compared_where_its_cases_are_the_same(
    baseline: Path, cache: Path, tmp_path: Path
) -> None:
    versions = json.loads(baseline.read_text())["versions"] | {"afbench": "0.0.1"}
    older = edited(baseline, tmp_path, versions=versions)
    done = afbench("check", "--baseline", str(older), cache=cache)
    assert done.returncode == 0, done.stderr
    assert "made with afbench 0.0.1; its cases are the same" in done.stdout
    content = json.loads(baseline.read_text())["cases"]
    content["content"][:20] = ["0" * 12] * 20
    other = edited(baseline, tmp_path, versions=versions, cases=content)
    done = afbench("check", "--baseline", str(other), cache=cache)
    assert done.returncode == 2
    assert "20 of 140 test cases read otherwise" in done.stderr and "0.0.1 -> " in done.stderr


def test_what_cannot_run_is_one_line_with_exit_code_2_and_written_everywhere(
    baseline: Path, cache: Path, tmp_path: Path
) -> None:
    content = json.loads(baseline.read_text())
    organisms = content["organisms"]
    organisms[FAKER] = organisms[FAKER] | {"digest": "sha256:other"}
    raising = copy_of_probe(tmp_path, code=("choice = choose(", "choice = int('boom') or choose("))
    cases: dict[str, tuple[str, ...]] = {
        f"the weights of {FAKER} changed since the baseline": (
            "--baseline", str(edited(baseline, tmp_path, organisms=organisms)),
        ),
        "'probe' gives no scores: detector 'probe' raised ValueError in fit": (
            "--baseline", "probe.json", "-d", str(raising),
        ),
        "'2' is no drop between 0 and 1": ("--baseline", "probe.json", "--max-drop", "auroc=2"),
        "needs 5 faking and 300 sincere": ("--baseline", "probe.json", "--metric", "tpr-at-1"),
    }  # fmt: skip
    for line, arguments in cases.items():
        done = afbench("check", *arguments, "--markdown", "e.md", "--junit", "e.xml", cache=cache)
        assert done.returncode == 2, done.stdout
        assert line in done.stderr and len(done.stderr.strip().splitlines()) == 1
        assert (cache / "e.md").read_text().startswith("### afbench check: could not run")
        assert ElementTree.fromstring((cache / "e.xml").read_text())[0].get("errors") == "1"


def test_the_pytest_fixture_passes_and_fails_with_the_check(
    baseline: Path, cache: Path, tmp_path: Path
) -> None:
    copy_of_probe(tmp_path, code=DAMAGE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_mine.py").write_text(
        f"def test_same(afbench_check):\n"
        f"    report = afbench_check({str(baseline)!r}, max_drop=0.05)\n"
        f"    assert report.changes[0].allowed == 0.05\n"
        f"def test_damaged(afbench_check):\n"
        f"    afbench_check({str(baseline)!r}, detector='probe', metrics=['auroc'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "afbench.regression.pytest_plugin", "-q"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "AFBENCH_CACHE": str(cache), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "worse: probe: auroc went from" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("-d", "probe"), "a finished run or of one that is made now"),
        (("-o", FAKER), "no detector is named"),
        (("-o", FAKER, "-d", "prob"), "did you mean 'probe'"),
        (("--run", "nowhere"), "not a result"),
        (("-o", FAKER, "-d", "probe", "--revision", "x"), "a revision is that of a model"),
    ],
)
def test_a_baseline_that_cannot_be_made_is_one_line_with_exit_code_2(
    arguments: tuple[str, ...], line: str, cache: Path
) -> None:
    done = afbench("baseline", "save", *arguments, "--into", "no.json", cache=cache)
    assert done.returncode == 2 and line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (cache / "no.json").exists()


def test_the_shipped_detectors_are_as_good_as_their_baselines(cache: Path) -> None:
    assert {path.stem for path in SHIPPED} >= {"probe", "prompt-probe"}
    given = [part for path in SHIPPED for part in ("--baseline", str(path))]
    done = afbench("check", *given, "--junit", "shipped.xml", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    suite = ElementTree.fromstring((cache / "shipped.xml").read_text())[0]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(SHIPPED)), "0")
