"""Sending a bundle: taken once whatever breaks, and the server's reason as one line."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from afbench.errors import SubmissionError
from afbench.submission.client import ATTEMPTS, TOKEN_VARIABLE, Client
from tests.submission.upload_server import TOKEN, Fault, upload_server


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(random.Random(0).randbytes(300_000))
    return path


def sent(bundle: Path, *faults: Fault) -> tuple[str, dict[str, bytes], int]:
    """The number of a submission, what the server has of it, and how many requests it took."""
    with upload_server(*faults) as server:
        receipt = Client(server.url, TOKEN, wait=0.01).send(bundle)
        assert receipt.url.startswith(server.url)
        return receipt.id, server.stored, len(server.requests)


def refused(bundle: Path, match: str, *faults: Fault, token: str = TOKEN) -> str:
    with upload_server(*faults) as server, pytest.raises(SubmissionError, match=match) as error:
        Client(server.url, token, wait=0.01).send(bundle)
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)
    return str(error.value)


def test_what_arrives_is_what_was_sent(bundle: Path) -> None:
    number, stored, requests = sent(bundle)
    assert (number, requests) == ("1", 1)
    assert list(stored.values()) == [bundle.read_bytes()]


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=502, body=b"<html>"), Fault(read=1_000), Fault(read=0),
     Fault(silent=True), Fault(status=503, headers={"Retry-After": "0"})],
    ids=["busy", "gateway", "cut-off", "closed", "answer-lost", "asked-to-wait"],
)  # fmt: skip
def test_what_breaks_is_sent_again_and_taken_once(bundle: Path, fault: Fault) -> None:
    number, stored, requests = sent(bundle, fault)
    assert (number, requests, len(stored)) == ("1", 2, 1)


def test_sending_it_twice_is_one_submission(bundle: Path) -> None:
    with upload_server() as server:
        client = Client(server.url, TOKEN)
        assert client.send(bundle) == client.send(bundle)
        assert client.status("1").status == "scored"


def test_a_server_that_stays_away_is_given_up(bundle: Path) -> None:
    said = refused(bundle, "is busy.*tried 5 times", *[Fault(status=503)] * ATTEMPTS)
    assert "not taken twice" in said


def test_no_server_is_one_line(bundle: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SubmissionError, match="cannot reach the server"):
        Client("http://127.0.0.1:9", TOKEN, wait=0.01).send(bundle)
    assert time.monotonic() - started < 10


def test_the_reason_of_the_server_is_shown(bundle: Path) -> None:
    problem = {"error": "the quota of season s is used up", "where": "token", "fix": "wait"}
    said = refused(bundle, "quota", Fault(status=429, body=json.dumps(problem).encode()))
    assert said == "the quota of season s is used up (token); wait"


def test_a_wrong_token_is_one_line(bundle: Path) -> None:
    refused(bundle, "the token is not known", token="another")
    refused(bundle, f"does not accept the token.*{TOKEN_VARIABLE}", Fault(status=403, body=b""))


def test_a_server_that_shows_the_token_or_control_characters_is_not_echoed(bundle: Path) -> None:
    problem = {"error": f"no \x1b[31m{TOKEN}\x07 here"}
    said = refused(bundle, "no ", Fault(status=400, body=json.dumps(problem).encode()))
    assert "\x1b" not in said and "\x07" not in said


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"id": null}', b"[" * 100_000, b'{"status": "x"}']
)
def test_another_kind_of_server_is_one_line(bundle: Path, body: bytes) -> None:
    refused(bundle, "--to", Fault(status=200, body=body))


def test_an_endless_answer_is_cut(bundle: Path) -> None:
    refused(bundle, "has no end", Fault(status=200, body=b"x" * 2_000_000))


def test_a_redirect_is_not_followed(bundle: Path) -> None:
    elsewhere = {"Location": "http://127.0.0.1:9/steal"}
    refused(bundle, "not the answer of an afbench server", Fault(status=307, headers=elsewhere))


@pytest.mark.parametrize(
    ("url", "match"),
    [("example.org", "not the address"), ("ftp://example.org", "not the address"),
     ("http://example.org", "anybody on the way"), ("https://u:p@example.org", "not the address"),
     ("https://", "not the address"), ("https://[", "not the address")],
)  # fmt: skip
def test_a_token_is_not_sent_just_anywhere(url: str, match: str) -> None:
    with pytest.raises(SubmissionError, match=match):
        Client(url, TOKEN)


def test_a_missing_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(SubmissionError, match=TOKEN_VARIABLE):
        Client("https://example.org")
    monkeypatch.setenv(TOKEN_VARIABLE, "two words")
    with pytest.raises(SubmissionError, match="characters"):
        Client("https://example.org")


@pytest.mark.parametrize("number", ["", "../1", "1?x", "a/b"])
def test_a_number_is_no_path(number: str) -> None:
    with pytest.raises(SubmissionError, match="no number"):
        Client("https://example.org", TOKEN).status(number)
