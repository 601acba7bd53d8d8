"""The leaderboard's folder: what does not belong there is named, one line for each file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afbench.errors import LeaderboardError
from afbench.leaderboard.board import RESULTS, add, entries, replace_entry, reported, validate
from afbench.leaderboard.entry import Flag, flagged, signed
from afbench.leaderboard.season import write_season
from afbench.store import write_json
from afbench.submission.bundle import open_bundle, write_bundle
from afbench.submission.folder import open_submission
from tests.leaderboard.boards import SEASON, TODAY, Small, content, season, small
from tests.results.test_record import record
from tests.submission.small_run import NAME, folder_of, run_of

SHIPPED = Path(__file__).parents[2] / "leaderboard"


@pytest.fixture
def own(tmp_path: Path) -> Small:
    return small(tmp_path)


def problem(own: Small, match: str) -> str:
    """The one problem of a leaderboard, which is a line."""
    report = validate(own.board)
    assert len(report.problems) == 1, report.problems
    [line] = report.problems
    assert match in line and "\n" not in line
    with pytest.raises(LeaderboardError):
        entries(own.board)
    return line


def test_sound_entries_of_every_status_are_told_apart(own: Small) -> None:
    for number, fields in enumerate(
        [{}, {"status": "external", "link": "https://example.org/paper"}]
    ):
        add(own.board, own.signed(number=number, **fields))
    add(own.board, own.verified(number=7))
    report = validate(own.board)
    assert not report.problems
    assert sorted(one.status for one in report.entries) == ["external", "reported", "verified"]


def test_the_shipped_leaderboard_is_sound() -> None:
    report = validate(SHIPPED)
    assert report.problems == []
    assert SHIPPED / RESULTS / "nano-zoo" / "recipe.json" in report.records


def test_a_record_of_a_sweep_lies_under_the_name_of_its_split(own: Small) -> None:
    sweep = own.board / RESULTS / "some-zoo"
    write_json(sweep / "recipe.json", record().model_dump(mode="json"))
    assert len(validate(own.board).records) == 1
    (sweep / "recipe.json").rename(sweep / "cue.json")
    problem(own, "results/some-zoo/cue.json: the record is of split 'recipe'")


def test_an_altered_sweep_is_named(own: Small) -> None:
    altered = record().model_dump(mode="json")
    altered["detectors"][0]["auroc"]["value"] = 0.8
    write_json(own.board / RESULTS / "some-zoo" / "recipe.json", altered)
    problem(own, "does not match its digest")


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    entry = json.loads(path.read_text())
    change(entry)
    path.write_text(json.dumps(entry))


def test_a_tampered_entry_is_refused(own: Small) -> None:
    path = add(own.board, own.signed())
    changed(path, lambda entry: entry["figures"]["auroc"].update(value=0.8))
    problem(own, "the entry was altered")


def test_a_tampered_entry_under_its_new_name_is_refused(own: Small) -> None:
    """The name follows from the content, so that a forger can put it right; the signature not."""
    entry = own.signed()
    figures = entry.figures.model_copy(update={"tier": "text"})
    own.put(entry.model_copy(update={"figures": figures}))
    problem(own, "the entry was altered")


def test_a_reported_entry_cannot_be_made_a_verified_one(own: Small) -> None:
    forged = own.signed().model_copy(
        update={"status": "verified", "half": "final", "commitment": own.root}
    )
    own.put(forged)
    problem(own, "the entry was altered")


def test_a_flag_cannot_be_taken_away_without_the_key(own: Small) -> None:
    path = add(own.board, own.signed())
    mark = Flag(reason="Tuned on the test.", since=TODAY)
    replace_entry(own.board, path, lambda old: flagged(old, mark, own.key))
    [entry] = entries(own.board)
    assert entry.unreliable == mark
    changed(path, lambda one: one.update(unreliable=None))
    problem(own, "the entry was altered")


def test_an_entry_of_another_season_is_refused(own: Small) -> None:
    write_season(own.board, season("autumn"))
    path = own.put(own.signed())
    moved = own.board / RESULTS / "autumn" / path.parent.name / path.name
    moved.parent.mkdir(parents=True)
    shutil.move(path, moved)
    problem(own, "the entry is of season 'spring'")


def test_an_entry_of_a_season_that_is_not_there_is_refused(own: Small) -> None:
    own.put(own.signed(season="sprung"))
    assert "did you mean 'spring'" in problem(own, "unknown season 'sprung'")


def test_a_score_on_another_sealed_set_is_refused(own: Small) -> None:
    own.put(own.verified(commitment="sha256:" + "0" * 64))
    problem(own, "a sealed set that season 'spring' has not committed to")


def test_an_entry_in_another_detectors_folder_is_refused(own: Small) -> None:
    path = own.put(own.signed())
    path.parent.rename(path.parent.with_name("another"))
    problem(own, "the entry is of the detector 'probing'")


def test_a_file_of_another_name_is_refused(own: Small) -> None:
    path = own.put(own.signed())
    path.rename(path.with_name("0" * 64 + ".json"))
    problem(own, "not the digest of what was measured")


@pytest.mark.parametrize("name", ["notes.txt", "a/b/c/d.json"])
def test_a_file_that_is_no_result_is_named(own: Small, name: str) -> None:
    path = own.board / RESULTS / SEASON / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    problem(own, f"results/spring/{name}: ")


def test_a_replay_is_refused_under_another_name_or_date(own: Small) -> None:
    add(own.board, own.signed())
    with pytest.raises(LeaderboardError, match="there already"):
        add(own.board, own.signed(made="2026-05-05"))
    renamed = own.signed(name="copied")
    with pytest.raises(LeaderboardError, match="a replay: the same record stands in"):
        add(own.board, renamed)
    own.put(renamed)
    problem(own, "a replay")


def test_figures_of_another_version_are_refused(own: Small) -> None:
    with pytest.raises(LeaderboardError, match=r"measured by afbench 0\.0\.1"):
        add(own.board, own.signed(afbench="0.0.1"))


def test_an_entry_from_before_the_season_is_refused(own: Small) -> None:
    with pytest.raises(LeaderboardError, match="before the season opened"):
        add(own.board, own.signed(made="2026-02-28"))


@pytest.mark.parametrize(("field", "value"), [("organism", "one"), ("split", "in-distribution"),
                                              ("fit_scenarios", 10), ("seed", 3)])  # fmt: skip
def test_reported_figures_are_of_the_seasons_run(own: Small, field: str, value: Any) -> None:
    fields = content()
    fields["settings"][field] = value
    with pytest.raises(LeaderboardError, match=f"measured with {field} {value}; season"):
        add(own.board, signed(fields, own.key))


def test_what_add_refuses_is_not_there(own: Small) -> None:
    with pytest.raises(LeaderboardError):
        add(own.board, own.signed(afbench="0.0.1"))
    assert not (own.board / RESULTS).exists()


@pytest.mark.parametrize("file", ["season.yaml", "commitment.json"])
def test_a_broken_season_is_named(own: Small, file: str) -> None:
    (own.board / "seasons" / SEASON / file).write_text("{")
    problem(own, "spring: ")


def test_a_changed_commitment_is_seen(own: Small) -> None:
    path = own.board / "seasons" / SEASON / "commitment.json"
    changed(path, lambda c: c["items"][1].update(commitment="sha256:" + "0" * 64))
    problem(own, "'root' is not that of the items")


def test_no_leaderboard_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="there is no leaderboard"):
        validate(tmp_path / "nowhere")


def test_a_flag_is_put_on_an_entry_of_this_leaderboard_only(own: Small, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    path.write_text("{}")
    with pytest.raises(LeaderboardError, match="not an entry of this leaderboard"):
        replace_entry(own.board, path, lambda old: old)


def test_a_bundle_is_reported_after_it_came_out_again(own: Small, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    run = run_of(tmp_path, folder)
    with open_submission(folder) as submission:
        write_bundle(tmp_path / "bundle.tar.gz", submission, run)
    with open_bundle(tmp_path / "bundle.tar.gz") as bundle:
        entry = reported(bundle, SEASON, own.key, TODAY)
        assert entry.figures == bundle.figures and entry.bundle == bundle.digest
        assert [floor.name for floor in entry.floors] == ["a-floor"]
        scores = bundle.folder / "scores.json"
        altered = json.loads(scores.read_text())
        altered["scores"][NAME] = sorted(altered["scores"][NAME])
        scores.write_text(json.dumps(altered))
        with pytest.raises(LeaderboardError, match="recorded .*, computed"):
            reported(bundle, SEASON, own.key, TODAY)
