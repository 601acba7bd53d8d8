"""A season from its seed to a blind score, as its scorer runs it; organisms are trained."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_run import ROOT, afbench

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

NAME = "trial"
HOMES = ("oversight-desk", "training-tier")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard with a key and an open season of few scenarios, and a submission."""
    place = tmp_path_factory.mktemp("season")
    assert afbench("leaderboard", "keygen", "scorer.pem", cache=place).returncode == 0
    today = datetime.datetime.now(datetime.UTC).date()
    rules = {
        "schema": 1, "season": NAME, "summary": "A trial.", "afbench": _version(place),
        "opens": str(today - datetime.timedelta(days=1)),
        "closes": str(today + datetime.timedelta(days=30)),
        "fit": "home", "fit_scenarios": 16, "test_scenarios": 40, "quota": 5, "step": 0.02,
    }  # fmt: skip
    folder = place / "leaderboard" / "seasons" / NAME
    folder.mkdir(parents=True)
    (folder / "season.yaml").write_text(yaml.safe_dump(rules))
    (place / "season.seed").write_bytes(bytes(range(32)))
    shutil.copytree(ROOT / "detectors" / "difference-of-means", place / "means")
    manifest = place / "means" / "detector.yaml"
    manifest.write_text(manifest.read_text().replace("name: difference-of-means", "name: means"))
    assert afbench("submit", "means", "--init", cache=place).returncode == 0
    submission = yaml.safe_load((place / "means" / "submission.yaml").read_text())
    submission |= {"authors": ["A. Nother"], "licence": "MIT", "training_data": "none"}
    (place / "means" / "submission.yaml").write_text(yaml.safe_dump(submission))
    return place


def _version(place: Path) -> str:
    return afbench("--version", cache=place).stdout.split()[-1]


SEAL = ("leaderboard", "seal", "--season", NAME, "--seed-file", "season.seed", "--sealed", "sealed")
SCORE = ("leaderboard", "score", "means", "--season", NAME, "--sealed", "sealed")


def test_a_season_is_sealed_scored_blind_and_stays_sealed(place: Path) -> None:
    homes = [part for home in HOMES for part in ("-e", home)]
    sealed = afbench(*SEAL, *homes, "--organisms", "4", cache=place, timeout=1500)
    assert sealed.returncode == 0, sealed.stderr
    published = place / "leaderboard" / "seasons" / NAME
    assert sorted(path.name for path in published.iterdir()) == ["commitment.json", "season.yaml"]
    # What is published names nothing of what is sealed.
    secret = json.loads((place / "sealed" / "sealed.json").read_text())
    told = (published / "commitment.json").read_text()
    for item in secret["items"]:
        assert item["salt"] not in told
    assert len(list((place / "sealed").glob("*/organisms/*/adapter"))) == 4

    scored = afbench(*SCORE, "--key", "scorer.pem", cache=place, timeout=900)
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.startswith("verified (feedback): means, AUROC ")
    sound = afbench("leaderboard", "validate", cache=place)
    assert sound.returncode == 0
    assert "1 entries are sound (1 verified)" in sound.stdout

    early = afbench(
        "leaderboard", "reveal", "--season", NAME, "--sealed", "sealed", "--seed-file",
        "season.seed", cache=place,
    )  # fmt: skip
    assert early.returncode == 2
    assert not (published / "revealed").exists()
    again = afbench(*SEAL, "--organisms", "4", cache=place)
    assert again.returncode == 2
    assert "sealed already" in again.stderr
