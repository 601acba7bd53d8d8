"""Seasons: what is committed to before is what is revealed after, or it is refused."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from afbench.errors import AfbenchError, LeaderboardError, ManifestError, UnknownNameError
from afbench.leaderboard.board import validate
from afbench.leaderboard.sealed_set import SEALED, check_sealed, content_digest, reveal
from afbench.leaderboard.season import (
    Half,
    commit,
    merkle_root,
    new_season,
    read_season,
    season_folder,
)
from tests.leaderboard.boards import AFTER, CLOSES, OPENS, SEASON, TODAY, Small, season, small


@pytest.fixture
def own(tmp_path: Path) -> Small:
    return small(tmp_path)


def sha256(*parts: bytes) -> str:
    return f"sha256:{hashlib.sha256(b''.join(parts)).hexdigest()}"


def test_a_tree_of_three_is_as_rfc_6962_draws_it() -> None:
    leaves = [sha256(bytes([number])) for number in range(3)]
    a, b, c = (sha256(b"\x00", leaf.encode()) for leaf in leaves)
    left = sha256(b"\x01", a.encode(), b.encode())
    assert merkle_root(leaves) == sha256(b"\x01", left.encode(), c.encode())
    assert merkle_root(leaves[:1]) == a


@given(st.lists(st.integers(0, 99), min_size=1, max_size=9, unique=True), st.data())
def test_no_leaf_can_be_changed_moved_or_left_out(numbers: list[int], data: Any) -> None:
    leaves = [sha256(bytes([number])) for number in numbers]
    root = merkle_root(leaves)
    at = data.draw(st.integers(0, len(leaves) - 1))
    assert merkle_root([*leaves[:at], sha256(b"other"), *leaves[at + 1 :]]) != root
    assert merkle_root([*leaves, leaves[-1]]) != root
    if len(leaves) > 1:
        assert merkle_root(leaves[:at] + leaves[at + 1 :]) != root
        assert merkle_root(leaves[::-1]) != root


def test_a_commitment_is_of_one_content_and_one_salt() -> None:
    one = commit("0" * 64, "sha256:a")
    assert one == sha256(b"afbench-item-1\n", bytes(32), b"sha256:a")
    assert len({one, commit("0" * 64, "sha256:b"), commit("1" * 64, "sha256:a")}) == 3


@pytest.mark.parametrize(
    ("half", "today", "match"),
    [
        ("feedback", datetime.date(2026, 2, 28), "opens on 2026-03-01"),
        ("final", datetime.date(2026, 2, 28), "opens on 2026-03-01"),
        ("feedback", AFTER, "closed on 2026-06-30"),
        ("final", CLOSES, "is scored after 2026-06-30"),
        ("feedback", OPENS, None),
        ("feedback", CLOSES, None),
        ("final", AFTER, None),
    ],
)
def test_each_half_has_its_time(half: Half, today: datetime.date, match: str | None) -> None:
    if match is None:
        season().check_half(half, today)
        return
    with pytest.raises(LeaderboardError, match=match):
        season().check_half(half, today)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("closes", "2026-02-01", "'closes' is before 'opens'"),
        ("closes", "soon", "field 'closes'"),
        ("step", 0, "greater than 0"),
        ("quota", 0, "greater than or equal to 1"),
        ("fit", "everything", "unknown value 'everything'; known: base, home"),
        ("season", "autumn", "not the folder's name 'spring'"),
        ("more", 1, "unknown field"),
    ],
)
def test_a_wrong_rule_is_named_with_its_line(
    own: Small, field: str, value: Any, match: str
) -> None:
    path = own.board / "seasons" / SEASON / "season.yaml"
    rules = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(rules | {field: value}, sort_keys=False))
    with pytest.raises(ManifestError, match=match) as error:
        read_season(own.board, SEASON)
    assert "season.yaml line" in str(error.value)


def test_a_new_season_needs_a_last_day_and_keeps_it(own: Small) -> None:
    with pytest.raises(LeaderboardError, match="--closes"):
        new_season(own.board, "autumn", TODAY, None)
    with pytest.raises(LeaderboardError, match="is no day"):
        new_season(own.board, "autumn", TODAY, "31.12.2026")
    with pytest.raises(LeaderboardError, match="before 'opens'"):
        new_season(own.board, "autumn", TODAY, "2020-01-01")
    new_season(own.board, "autumn", TODAY, "2026-12-31")
    assert read_season(own.board, "autumn").closes == datetime.date(2026, 12, 31)
    new_season(own.board, "autumn", TODAY, "2026-12-31")  # a killed seal is run once more
    with pytest.raises(LeaderboardError, match="has another last day already"):
        new_season(own.board, "autumn", TODAY, "2027-12-31")


def test_an_unknown_season_suggests_the_nearest(own: Small) -> None:
    with pytest.raises(UnknownNameError, match="unknown season") as error:
        season_folder(own.board, "sprint")
    assert "did you mean 'spring'" in str(error.value)


# -- the sealed set -------------------------------------------------------------------------------


def test_what_was_committed_to_is_revealed_and_checks_out(own: Small) -> None:
    folder = reveal(own.board, own.sealed, SEASON, AFTER)
    sealed, commitment = check_sealed(own.board, folder, SEASON)
    assert commitment.root == own.root
    for item in sealed.items:
        if item.path is not None:
            assert content_digest(folder / item.path) == content_digest(own.sealed / item.path)
    assert validate(own.board).problems == []


def test_nothing_is_revealed_before_the_season_is_over(own: Small) -> None:
    with pytest.raises(LeaderboardError, match="open until 2026-06-30"):
        reveal(own.board, own.sealed, SEASON, CLOSES)
    assert not (own.board / "seasons" / SEASON / "revealed").exists()


def test_a_season_is_revealed_once(own: Small) -> None:
    reveal(own.board, own.sealed, SEASON, AFTER)
    with pytest.raises(LeaderboardError, match="was revealed already"):
        reveal(own.board, own.sealed, SEASON, AFTER)


@pytest.mark.parametrize("change", ["alter", "add", "remove", "link", "salt", "more", "less"])
def test_another_set_than_the_committed_one_is_refused(own: Small, change: str) -> None:
    place = own.sealed / "final" / "organisms" / "sealed-final"
    file = place / "organism.yaml"
    sealed = json.loads((own.sealed / SEALED).read_text())
    if change == "alter":
        file.write_text("easier\n")
    elif change == "add":
        (place / "more.txt").write_text("x")
    elif change == "remove":
        file.unlink()
    elif change == "link":
        file.rename(own.sealed / "elsewhere")
        file.symlink_to(own.sealed / "elsewhere")
    elif change == "salt":
        sealed["items"][-1]["salt"] = "f" * 64
    elif change == "more":
        sealed["items"].append(sealed["items"][-1] | {"id": "one-more"})
    else:
        sealed["items"].pop()
    (own.sealed / SEALED).write_text(json.dumps(sealed))
    with pytest.raises(LeaderboardError, match="committed to|missing or empty|no links"):
        reveal(own.board, own.sealed, SEASON, AFTER)
    assert not (own.board / "seasons" / SEASON / "revealed").exists()
    assert not list((own.board / "seasons" / SEASON).glob(".revealed*"))


def test_a_sealed_set_of_another_season_is_refused(own: Small) -> None:
    path = own.sealed / SEALED
    path.write_text(path.read_text().replace(SEASON, "autumn"))
    with pytest.raises(LeaderboardError, match="of season 'autumn', not 'spring'"):
        check_sealed(own.board, own.sealed, SEASON)


@pytest.mark.parametrize("path", ["/etc", "../secrets", "elsewhere/x", ""])
def test_an_item_lies_in_its_half(own: Small, path: str) -> None:
    sealed = json.loads((own.sealed / SEALED).read_text())
    sealed["items"][1]["path"] = path
    (own.sealed / SEALED).write_text(json.dumps(sealed))
    with pytest.raises(LeaderboardError):
        check_sealed(own.board, own.sealed, SEASON)


def test_a_revealed_set_that_was_changed_is_seen(own: Small) -> None:
    folder = reveal(own.board, own.sealed, SEASON, AFTER)
    (folder / "final" / "organisms" / "sealed-final" / "organism.yaml").write_text("other")
    [problem] = validate(own.board).problems
    assert problem.startswith("spring: revealed set: 'final-organism-1' is not what")


def test_another_seed_is_not_published(own: Small) -> None:
    with pytest.raises(LeaderboardError, match="the seed is not the one"):
        reveal(own.board, own.sealed, SEASON, AFTER, b"another seed, just as long")


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_sealed_json_is_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    own = small(tmp_path_factory.mktemp("any"))
    (own.sealed / SEALED).write_bytes(raw)
    with pytest.raises(AfbenchError) as error:
        check_sealed(own.board, own.sealed, SEASON)
    assert "\n" not in str(error.value)
