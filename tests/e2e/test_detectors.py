"""`afbench detectors save | load`, and splits, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.test_run import FAKER, afbench

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

OTHER = "desk-faker-r16-s0"
FEW = ("--scenarios", "12")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_detector_is_saved_and_scores_organisms_later(cache: Path) -> None:
    done = afbench("detectors", "save", "probe", "-o", FAKER, *FEW, "--into", "kept", cache=cache)
    assert done.returncode == 0, done.stderr
    assert "fitted on 1 fakers and" in done.stdout and "Saved: kept" in done.stdout
    found = afbench("detectors", "load", "kept", "-o", OTHER, "--json", *FEW, cache=cache)
    scores = json.loads(found.stdout)
    assert scores["auroc"] is not None
    assert [one["name"] for one in scores["organisms"] if one["role"] == "faker"] == [OTHER]
    assert not any(one["fitted"] for one in scores["organisms"])
    again = afbench("detectors", "save", "probe", "-o", FAKER, "--into", "kept", cache=cache)
    assert again.returncode == 2 and "not empty" in again.stderr
    state = cache / "kept" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"!")
    damaged = afbench("detectors", "load", "kept", "-o", OTHER, cache=cache)
    assert damaged.returncode == 2 and len(damaged.stderr.strip().splitlines()) == 1
    assert "not the file that was saved" in damaged.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("detectors", "load", "nowhere", "-o", FAKER), "no saved detector"),
        (("detectors", "save", "prob", "-o", FAKER, "--into", "x"), "did you mean 'probe'"),
        (("detectors", "save", "probe", "-o", "nano-base", "--into", "x"), "is a base"),
        (("detectors", "save", "probe", "-o", "all", "--into", "x"), "choose one by --base"),
        (("run", "-d", "probe", "--split", "recipes"), "did you mean 'recipe'"),
        (("run", "-d", "probe", "--split", "cue", "--split", "nonsense"), "unknown split"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(
    arguments: tuple[str, ...], line: str, cache: Path
) -> None:
    done = afbench(*arguments, cache=cache)
    assert done.returncode == 2
    assert line in done.stderr and len(done.stderr.strip().splitlines()) == 1
