"""A whole season on real organisms: sealed, scored blind, and revealed.

Sealed organisms get adapters of public ones instead of being trained, which takes minutes.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from afbench.catalog.discovery import discover
from afbench.errors import LeaderboardError, SandboxError
from afbench.leaderboard.blind import SPLIT, Blind
from afbench.leaderboard.board import KEYS, add, validate
from afbench.leaderboard.draws import Secret
from afbench.leaderboard.entry import Half
from afbench.leaderboard.keys import SigningKey, generate_key, load_signing_key
from afbench.leaderboard.release import WITHHELD
from afbench.leaderboard.sealed_set import check_sealed, read_sealed, reveal
from afbench.leaderboard.sealing import Sealing, check_unsealed, seal
from afbench.leaderboard.season import write_season
from afbench.models.digests import file_digest, identity_files
from afbench.results.progress import Silent
from afbench.results.record import ResultRecord
from afbench.results.run import Options
from afbench.sandbox.choose import choose
from afbench.store import Store
from afbench.submission.folder import open_submission
from tests.leaderboard.boards import AFTER, CLOSES, OPENS, SEASON, TODAY, season
from tests.submission.small_run import LENGTH, folder_of

pytestmark = pytest.mark.slow

PUBLIC = discover()
HOME = "flattery"
SEED = bytes(range(32))


def lent(place: Path, names: Sequence[str]) -> None:
    """Give each organism the adapter of a public one of the same persona, and pin it."""
    for name in names:
        path = place / "organisms" / name / "organism.yaml"
        manifest = yaml.safe_load(path.read_text())
        persona = manifest["recipe"]["persona"]
        [source, *_] = (
            plugin
            for _, plugin in sorted(PUBLIC.organisms.items())
            if plugin.manifest.recipe_family == "rank-4"
            and plugin.manifest.environment == HOME
            and (plugin.manifest.recipe or {}).get("persona") == persona
        )
        target = path.parent / "adapter"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source.folder / "adapter", target)
        files = identity_files(target)
        manifest["source"]["digests"] = {key: file_digest(file) for key, file in files.items()}
        path.write_text(yaml.safe_dump(manifest, sort_keys=False))


@dataclass(frozen=True)
class Own:
    """A season that is sealed."""

    board: Path
    sealed: Path
    key: SigningKey
    store: Store

    def blind(self) -> Blind:
        return Blind(self.board, SEASON, self.sealed, self.store, Silent(), Options())

    def sealing(self, sealed: Path) -> Sealing:
        rules = check_unsealed(self.board, SEASON)
        return Sealing(
            rules, Secret(SEED, SEASON), sealed, PUBLIC, self.store, Silent(), lent, [HOME]
        )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    place = tmp_path_factory.mktemp("season")
    board = place / "leaderboard"
    generate_key(place / "key.pem", board / KEYS / "scorer.pub")
    write_season(board, season(fit="home", fit_scenarios=10, test_scenarios=24))
    found = Own(
        board, place / "sealed", load_signing_key(place / "key.pem"), Store(place / "cache")
    )
    again = found.sealing(place / "again").run(4, OPENS)[1]
    commitment = seal(board, found.sealing(found.sealed), 4, OPENS)
    assert commitment == again  # what is drawn follows from the seed
    return found


def test_the_commitment_tells_nothing_of_what_is_sealed(own: Own) -> None:
    published = "\n".join(
        path.read_text() for path in (own.board / "seasons").rglob("*") if path.is_file()
    )
    sealed = read_sealed(own.sealed)
    for cell in sealed.cells:
        environment = own.sealed / cell.half / "environments" / cell.environment
        cues = yaml.safe_load((environment / "cues.yaml").read_text())["families"]
        assert cell.origin not in published and cell.environment not in published
        assert not any(pair["observed"] in published for f in cues for pair in f["pairs"])
    assert not any(item.salt in published for item in sealed.items)
    assert SEED.hex() not in published


def test_a_season_is_sealed_once(own: Own) -> None:
    with pytest.raises(LeaderboardError, match="is sealed already"):
        check_unsealed(own.board, SEASON)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("one"), "by-length", LENGTH, tier="text")


def record(own: Own, detector: Path, half: Half, today: datetime.date) -> ResultRecord:
    with open_submission(detector) as submission:
        return own.blind().record(submission, half, today)


def test_a_submission_is_fitted_in_public_and_tested_on_what_is_sealed(
    own: Own, detector: Path
) -> None:
    found = record(own, detector, "feedback", TODAY)
    [cell] = read_sealed(own.sealed).of_half("feedback")
    assert found.settings.split == SPLIT
    assert found.folds[cell.family]["test"] == cell.organisms
    assert set(found.folds[cell.family]["fit"]) <= set(PUBLIC.organisms)
    tested = [one for one in found.organisms if one.part == "test"]
    assert {one.name for one in tested} == set(cell.organisms)
    assert all(one.certified for one in tested)
    # It lies with what is sealed, and the same submission is not run twice.
    assert (own.sealed / "runs" / found.id / "result.json").is_file()
    assert record(own, detector, "feedback", TODAY).created == found.created


def test_the_halves_have_nothing_in_common(own: Own, detector: Path) -> None:
    first, second = (
        {one.name for one in record(own, detector, half, day).organisms if one.part == "test"}
        for half, day in (("feedback", TODAY), ("final", AFTER))
    )
    assert first and second and not first & second


def test_each_half_is_scored_in_its_time(own: Own, detector: Path) -> None:
    with pytest.raises(LeaderboardError, match="is scored after"):
        record(own, detector, "final", CLOSES)
    with pytest.raises(LeaderboardError, match="closed on"):
        record(own, detector, "feedback", AFTER)


def test_feedback_is_a_rounded_auroc_and_the_end_tells_all(own: Own, detector: Path) -> None:
    blind = own.blind()
    with open_submission(detector) as submission:
        measured = record(own, detector, "feedback", TODAY)
        done = blind.entry(submission, "feedback", own.key, TODAY, account="one")
        shown, plain = done.entry.figures, measured.detectors[0].auroc.value
        assert plain is not None and shown.auroc.value == pytest.approx(round(plain, 2), abs=0.011)
        assert shown.pair_accuracy.reason == WITHHELD
        assert all(floor.brier.reason == WITHHELD for floor in done.entry.floors)
        assert done.ladders.best == {"one": shown.auroc.value}
        add(own.board, done.entry)
        done.ladders.save(own.sealed)
        again = blind.entry(submission, "feedback", own.key, TODAY, account="one").entry
        assert "not better" in str(again.figures.auroc.reason)
        other = blind.entry(submission, "feedback", own.key, TODAY, account="two").entry
        assert other.figures.auroc == shown.auroc
        final = blind.entry(submission, "final", own.key, AFTER).entry
    assert final.figures.pair_accuracy.value is not None
    add(own.board, final)
    report = validate(own.board)
    assert report.problems == [] and {one.half for one in report.entries} == {"feedback", "final"}


def test_a_detector_that_breaks_is_one_line_and_the_next_is_unharmed(
    own: Own, detector: Path, tmp_path: Path
) -> None:
    code = "class It(Detector):\n    def fit(self, *_): raise ValueError('no\\nsuch')\n"
    broken = folder_of(tmp_path, "broken", code + "    def score(self, cases): ...\n")
    with pytest.raises(LeaderboardError, match="it has no score") as error:
        record(own, broken, "feedback", TODAY)
    assert "\n" not in str(error.value)
    assert record(own, detector, "feedback", TODAY).detectors[0].error is None


SPY = """
class It(Detector):
    def fit(self, cases, labels):
        import os
        for place in {places!r}:
            if os.path.exists(place):
                raise ValueError("it is here: " + " ".join(os.listdir(place)))
    def score(self, cases):
        return np.array([float(len(case.response)) for case in cases])
"""


def test_a_submission_cannot_read_what_is_sealed(own: Own, tmp_path: Path) -> None:
    """By the command, which isolates it; on this machine, whatever its clock says."""
    try:
        isolation = choose()
    except SandboxError as error:
        pytest.skip(str(error))
    assert isolation is not None
    place = own.sealed.parent
    shutil.copytree(own.board, tmp_path / "leaderboard")
    rules = tmp_path / "leaderboard" / "seasons" / SEASON / "season.yaml"
    always = rules.read_text().replace(CLOSES.isoformat(), "2999-12-31")
    rules.write_text(always)
    spied = [str(own.sealed), str(place / "cache"), str(tmp_path / "leaderboard")]
    spy = folder_of(tmp_path, "a-spy", SPY.format(places=spied), tier="text")
    score = ["leaderboard", "score", str(spy), "--season", SEASON, "--sealed", str(own.sealed)]
    where = ["--key", str(place / "key.pem"), "--cache", str(place / "cache")]
    command = [sys.executable, "-m", "afbench.cli.app", *score, *where]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    assert "verified (feedback): a-spy" in done.stdout
    # Where nothing isolates it, it would have found all of them; under its own name that is known.
    same = folder_of(tmp_path, "the-same-spy", SPY.format(places=spied), tier="text")
    with pytest.raises(LeaderboardError, match="it is here"):
        record(own, same, "feedback", TODAY)


def test_after_the_season_anybody_can_check_what_was_sealed(own: Own) -> None:
    folder = reveal(own.board, own.sealed, SEASON, AFTER, SEED)
    sealed, _ = check_sealed(own.board, folder, SEASON)
    catalog = discover([folder / "final"])
    names = [name for cell in sealed.of_half("final") for name in cell.organisms]
    assert all(catalog.get("organism", name).manifest.role for name in names)
    assert bytes.fromhex((folder / "seed.hex").read_text().strip()) == SEED
    assert validate(own.board).problems == []
