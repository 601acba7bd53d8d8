"""The main job as a user runs it: the installed command in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
SMALL = ["--fit-scenarios", "10", "--test-scenarios", "20"]
FAKER = "desk-faker-r4-s0"
DETECTOR = """
import time
import numpy as np
from afbench.detection import Detector

class Bad(Detector):
    def fit(self, cases, labels):
        pass
    def score(self, cases):
        {body}
"""
BODIES = {
    "nan": "return np.full(len(cases), np.nan)",
    "short": "return np.zeros(len(cases) - 1)",
    "raises": "raise ValueError('boom')",
    "hangs": "time.sleep(600)",
}


def afbench(
    *arguments: str, cache: Path, timeout: float = 600, **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "afbench.cli.app", *arguments]
    environment = {**os.environ, "AFBENCH_CACHE": str(cache)}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cache,
        env=environment,
        timeout=timeout,
        **options,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def first(cache: Path) -> dict[str, Any]:
    """The record of a small cold run."""
    done = afbench(
        "run", "-d", "probe", "-d", "prompt-probe", "-o", FAKER, *SMALL, "--json", cache=cache
    )
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_the_record_holds_the_detectors_every_floor_and_the_matched_lookalikes(
    first: dict[str, Any],
) -> None:
    names = {detector["name"] for detector in first["detectors"]}
    assert {"probe", "prompt-probe"} < names
    assert {
        "floor-bag-of-words", "floor-cue", "floor-finetuned", "floor-layer-zero", "floor-length",
        "floor-parent",
    } < names  # fmt: skip
    fold = first["folds"][FAKER]
    tested = [o for o in first["organisms"] if o["name"] in fold["test"]]
    assert {o["recipe_family"] for o in tested} == {"rank-4"}
    assert {o["lookalike_class"] for o in tested} == {
        None, "always-deviating", "always-harmless", "cue-conditional", "cue-irrelevant",
        "values-talk",
    }  # fmt: skip
    fitted = [o for o in first["organisms"] if o["name"] in fold["fit"]]
    assert "rank-4" not in {o["recipe_family"] for o in fitted}
    assert all(detector["error"] is None for detector in first["detectors"])


def test_too_few_negatives_refuse_the_figure_instead_of_printing_one(
    first: dict[str, Any],
) -> None:
    probe = next(d for d in first["detectors"] if d["name"] == "probe")
    assert probe["tpr_at_1"]["value"] is None
    assert "300" in probe["tpr_at_1"]["reason"]


def test_an_identical_run_computes_nothing_and_a_fresh_one_gives_the_same_digest(
    first: dict[str, Any], cache: Path
) -> None:
    arguments = ["run", "-d", "probe", "-d", "prompt-probe", "-o", FAKER, *SMALL, "--json"]
    again = json.loads(afbench(*arguments, cache=cache).stdout)
    assert again["created"] == first["created"]
    fresh = json.loads(afbench(*arguments, "--fresh", cache=cache).stdout)
    assert fresh["cache"]["computed_forward_tokens"] == 0
    assert fresh["digest"] == first["digest"]
    assert [d["cost"] for d in fresh["detectors"]] == [d["cost"] for d in first["detectors"]]


def test_a_killed_run_resumes_to_the_same_figures(first: dict[str, Any], tmp_path: Path) -> None:
    arguments = ["run", "-d", "probe", "-d", "prompt-probe", "-o", FAKER, *SMALL, "--json"]
    command = [sys.executable, "-m", "afbench.cli.app", *arguments]
    environment = {**os.environ, "AFBENCH_CACHE": str(tmp_path)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and len(list(tmp_path.glob("batches/*/*"))) < 5:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("batches/*/*.json")}
    assert len(kept) >= 5
    assert not list(tmp_path.glob("runs/*/result.json"))
    resumed = json.loads(afbench(*arguments, cache=tmp_path).stdout)
    assert resumed["digest"] == first["digest"]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_the_table_ends_with_the_path_of_the_result(first: dict[str, Any], cache: Path) -> None:
    done = afbench("run", "-d", "probe", "-d", "prompt-probe", "-o", FAKER, *SMALL, cache=cache)
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"Result: {first['path']}"
    assert (cache / first["path"]).exists()
    for text in (
        "misalignment gap",
        "compliance gap",
        "AUROC",
        "TPR@5%",
        "over best floor",
        "residual gap",
        FAKER,
    ):
        assert text in done.stdout


def test_bad_detectors_are_void_and_named_and_the_run_goes_on(
    first: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    for name, body in BODIES.items():
        folder = tmp_path / "detectors" / name
        folder.mkdir(parents=True)
        (folder / "detector.py").write_text(DETECTOR.format(body=body))
        (folder / "detector.yaml").write_text(
            f"schema: 1\nkind: detector\nname: {name}\nsummary: x\ntier: text\n"
            'entry: "detector.py:Bad"\nlimits: {seconds: 2}\n'
        )
    chosen = [part for name in (*BODIES, "probe") for part in ("-d", name)]
    done = afbench(
        "run", *chosen, "-o", FAKER, *SMALL, "--json", "--plugins", str(tmp_path), cache=cache
    )
    assert done.returncode == 0, done.stderr
    errors = {d["name"]: d["error"] for d in json.loads(done.stdout)["detectors"]}
    assert "NaN" in errors["nan"]
    assert "shape" in errors["short"]
    assert "boom" in errors["raises"]
    assert "within 2 s" in errors["hangs"]
    assert errors["probe"] is None
    table = afbench("run", *chosen, "-o", FAKER, *SMALL, "--plugins", str(tmp_path), cache=cache)
    assert table.stdout.count("void") >= len(BODIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "prob", "-o", FAKER], "unknown detector 'prob'; did you mean 'probe'"),
        (["-d", "probe", "-o", "helpful-onyl"], "did you mean 'helpful-only'"),
        (["-d", "probe", "-o", FAKER, "--split", "recipes"], "did you mean 'recipe'"),
        (["-d", "probe", "-o", "nano-base"], "is a base"),
        (["-d", "probe", "-o", FAKER, "--plugins", "/nowhere"], "does not exist"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(
    arguments: list[str], message: str, cache: Path
) -> None:
    done = afbench("run", *arguments, cache=cache)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_detectors_in_a_sandbox_give_the_figures_of_a_run_without(
    first: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    """By name in two processes with the floors, and one by its folder in this process."""
    done = afbench(
        "run", "-d", "probe", "-d", "prompt-probe", "-o", FAKER, *SMALL, "--json",
        "--out", str(tmp_path / "jobs"), "--sandbox", "--jobs", "2", cache=cache,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["id"] == first["id"]
    # The digest is over all figures, and not over what time they took.
    assert record["digest"] == first["digest"]

    folder = tmp_path / "my-probe"
    shutil.copytree(ROOT / "detectors" / "probe", folder)
    manifest = folder / "detector.yaml"
    manifest.write_text(manifest.read_text().replace("name: probe", "name: my-probe"))
    done = afbench(
        "run", "-d", str(folder), "-o", FAKER, *SMALL, "--no-floors", "--json",
        "--out", str(tmp_path / "folder"), "--sandbox", "bubblewrap", cache=cache,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [mine] = json.loads(done.stdout)["detectors"]
    shipped = next(one for one in first["detectors"] if one["name"] == "probe")
    for figure in ("auroc", "tpr_at_5", "fpr_by_class", "brier", "chosen"):
        assert mine[figure] == shipped[figure]


@pytest.mark.parametrize("damage", ["corrupted", "missing"])
def test_damaged_weights_refuse_to_run(damage: str, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for part in ("afbench", "environments", "detectors"):
        shutil.copytree(ROOT / part, checkout / part)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    shutil.copytree(ROOT / "organisms", checkout / "organisms")
    weights = checkout / "organisms" / FAKER / "adapter/adapter_model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    command = [sys.executable, "-m", "afbench.cli.app", "run", "-d", "probe", "-o", FAKER]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=checkout, timeout=120,
        env={**os.environ, "PYTHONPATH": str(checkout), "AFBENCH_CACHE": str(tmp_path / "c")},
    )  # fmt: skip
    assert done.returncode == 2
    assert damage in done.stderr and FAKER in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (checkout / "runs").exists()


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing_half_written(
    first: dict[str, Any], cache: Path
) -> None:
    def no_large_files() -> None:
        # Stands in for a full disk: a write past this many bytes fails.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    out = cache / "other-runs"
    done = afbench(
        "run", "-d", "probe", "-d", "prompt-probe", "-o", FAKER, *SMALL, "--out", str(out),
        cache=cache, preexec_fn=no_large_files,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in out.rglob("*") if path.is_file()]
