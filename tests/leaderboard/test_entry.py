"""Entries and keys: what was signed is what is there, and a private key stays private."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.errors import AfbenchError, LeaderboardError
from afbench.leaderboard.entry import Entry, Flag, flagged, read_entry, signed, verify
from afbench.leaderboard.keys import (
    SigningKey,
    VerifyingKey,
    generate_key,
    load_public_keys,
    load_signing_key,
)
from tests.leaderboard.boards import content, row

FLAG = Flag(reason="It was tuned on the test.", since=datetime.date(2026, 5, 1))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, dict[str, VerifyingKey]]:
    place = tmp_path_factory.mktemp("keys")
    generate_key(place / "key.pem", place / "keys" / "scorer.pub")
    return load_signing_key(place / "key.pem"), dict(load_public_keys(place / "keys"))


def test_a_signed_entry_verifies_after_it_was_written_and_read(
    tmp_path: Path, pair: tuple[SigningKey, dict[str, VerifyingKey]]
) -> None:
    key, keys = pair
    entry = signed(content(), key)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(entry.content(), indent=3))
    again = read_entry(path)
    verify(again, keys)
    assert again == entry and again.file == entry.file


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every plain value in some JSON."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from places(inner, (*above, key))
    else:
        yield above


PLACES = list(places({**content(), "link": "https://example.org", "unreliable": None}))


@given(
    place=st.sampled_from(PLACES),
    value=st.none() | st.booleans() | st.integers(-3, 9) | st.floats(0, 1) | st.text(max_size=9),
)
@settings(max_examples=300)
def test_no_field_can_be_changed_unseen(
    pair: tuple[SigningKey, dict[str, VerifyingKey]], place: tuple[Any, ...], value: Any
) -> None:
    key, keys = pair
    entry = signed(content(link="https://example.org"), key)
    altered: Any = entry.content()
    inner = altered
    for part in place[:-1]:
        inner = inner[part]
    before, inner[place[-1]] = inner[place[-1]], value
    if value == before and type(value) is type(before):
        return
    try:
        read = Entry.model_validate(altered)
    except ValueError:
        return  # not even an entry
    if read == entry:  # 1 for 1.0, say
        return
    with pytest.raises(LeaderboardError):
        verify(read, keys)


def test_a_signature_of_another_key_is_refused(
    tmp_path: Path, pair: tuple[SigningKey, dict[str, VerifyingKey]]
) -> None:
    _, keys = pair
    generate_key(tmp_path / "other.pem", tmp_path / "other.pub")
    entry = signed(content(), load_signing_key(tmp_path / "other.pem"))
    with pytest.raises(LeaderboardError, match="none of the leaderboard's"):
        verify(entry, keys)
    claimed = entry.model_copy(update={"key": next(iter(keys))})
    with pytest.raises(LeaderboardError, match="was altered"):
        verify(claimed, keys)


def test_a_flag_is_signed_and_leaves_the_entry_what_it_is(
    pair: tuple[SigningKey, dict[str, VerifyingKey]],
) -> None:
    key, keys = pair
    entry = signed(content(), key)
    doubted = flagged(entry, FLAG, key)
    verify(doubted, keys)
    assert doubted.unreliable == FLAG and doubted.file == entry.file
    assert doubted.signature != entry.signature
    assert flagged(doubted, None, key) == entry
    with pytest.raises(LeaderboardError, match="was altered"):
        verify(doubted.model_copy(update={"unreliable": None}), keys)


def test_the_same_measurement_has_one_name_whenever_it_is_made(
    pair: tuple[SigningKey, dict[str, VerifyingKey]],
) -> None:
    key, _ = pair
    later = content(made=datetime.date(2026, 5, 5).isoformat())
    assert signed(content(), key).file == signed(later, key).file
    other = content(figures=row("probing", 0.76).model_dump(mode="json"))
    assert signed(content(), key).file != signed(other, key).file


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"status": "verified"}, "'half' and 'commitment'"),
        ({"half": "final"}, "'half' and 'commitment'"),
        ({"status": "external"}, "needs a 'link'"),
        ({"bundle": None}, "needs a 'bundle'"),
        ({"detector": "another"}, "another detector's"),
        ({"link": "javascript:alert(1)"}, "no address"),
        ({"made": "yesterday"}, "not an entry"),
        ({"more": 1}, "not an entry"),
        ({"season": "../elsewhere"}, "not an entry"),
        ({"detector": "a/b"}, "not an entry"),
    ],
)
def test_what_is_no_entry_is_not_signed(
    pair: tuple[SigningKey, dict[str, VerifyingKey]], fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(LeaderboardError, match=match):
        signed(content(**fields), pair[0])


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_an_entry_or_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.json"
    path.write_bytes(raw)
    with pytest.raises(AfbenchError) as error:
        read_entry(path)
    assert "\n" not in str(error.value)


# -- keys -----------------------------------------------------------------------------------------


def test_a_private_key_does_not_go_into_a_checkout(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(LeaderboardError, match="does not belong in a checkout"):
        generate_key(tmp_path / "deep" / "key.pem", tmp_path / "x.pub")
    assert not list(tmp_path.rglob("*.pem"))


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
def test_a_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    generate_key(path, tmp_path / "x.pub")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(LeaderboardError, match="others may read"):
        load_signing_key(path)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    generate_key(tmp_path / "key.pem", tmp_path / "x.pub")
    for private, public in (("key.pem", "y.pub"), ("other.pem", "x.pub")):
        with pytest.raises(LeaderboardError, match="there already"):
            generate_key(tmp_path / private, tmp_path / public)


def test_a_public_key_holds_nothing_of_the_private_one(tmp_path: Path) -> None:
    generate_key(tmp_path / "key.pem", tmp_path / "x.pub")
    assert "PUBLIC KEY" in (tmp_path / "x.pub").read_text()
    assert "PRIVATE" not in (tmp_path / "x.pub").read_text()


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_what_is_no_key_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.pub"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(LeaderboardError, match="not a public ed25519 key"):
        load_public_keys(tmp_path)
    with pytest.raises(LeaderboardError, match="not a private ed25519 key"):
        load_signing_key(path)
    with pytest.raises(LeaderboardError, match="cannot read the key"):
        load_signing_key(tmp_path / "nowhere")
