"""What is taken, and what is refused: one clear line to its sender, and nothing stored."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import re
import socket
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from afbench.errors import SubmissionError
from afbench.server.accounts import Accounts
from afbench.server.database import Database
from afbench.server.settings import Settings
from afbench.submission.archive import pack
from afbench.submission.bundle import MANIFEST, archive_digest
from afbench.submission.client import DIGEST_HEADER, PATH, Client
from tests.server.bundles import Files, Made, changed_record
from tests.server.processes import until
from tests.server.running import Running, problem, running
from tests.server.seasons import OpenSeason


@pytest.fixture
def server(settings: Settings, database: Database) -> Iterator[Running]:
    with running(settings, database) as found:
        yield found


def queued(server: Running, token: str) -> int:
    return len(server.get("submissions", token).json()["submissions"])


def unharmed(server: Running, made: Made, token: str) -> None:
    """Nothing of the refused was stored, and the next is taken."""
    assert server.stored() == [] and queued(server, token) == 0
    assert server.send(made.bundle(99), token).status_code == 201


# -- what is taken --------------------------------------------------------------------------------


def test_the_client_gets_a_receipt_and_later_a_status(server: Running, made: Made) -> None:
    client = Client(server.url, server.token())
    receipt = client.send(made.bundle(1))
    assert receipt.status == "queued" and receipt.url.startswith(server.url)
    assert client.status(receipt.id).status == "queued"
    kept = server.settings.bundle(archive_digest(made.bundle(1)))
    assert kept.read_bytes() == made.bundle(1).read_bytes()


def test_the_same_bundle_again_is_the_same_submission(server: Running, made: Made) -> None:
    token = server.token()
    first, again = (server.send(made.bundle(1), token) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() and queued(server, token) == 1


def test_the_same_bundle_many_times_at_once_is_one_submission(server: Running, made: Made) -> None:
    token, bundle = server.token(), made.bundle(1)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: server.send(bundle, token), range(8)))
    assert {reply.json()["id"] for reply in replies} == {replies[0].json()["id"]}
    assert sorted(reply.status_code for reply in replies) == [200] * 7 + [201]


def test_a_bundle_that_is_packed_anew_is_the_same_submission(server: Running, made: Made) -> None:
    token = server.token()
    anew = gzip.compress(gzip.decompress(made.bundle(1).read_bytes()), 1)
    path = made.place / "anew.tar.gz"
    path.write_bytes(anew)
    first, again = server.send(made.bundle(1), token), server.send(path, token)
    assert again.status_code == 200 and first.json() == again.json()


def test_a_position_in_the_queue_is_told(server: Running, made: Made) -> None:
    token = server.token()
    ids = [server.send(made.bundle(n), token).json()["id"] for n in range(3)]
    shown = server.get("submissions", token).json()["submissions"]
    assert [(one["id"], one["position"]) for one in shown] == list(zip(ids, (1, 2, 3), strict=True))


# -- who may send ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [None, b"", b"Bearer", b"Bearer wrong", b"Basic YTpi", "Bearer ä".encode(),
     b"Bearer afb_00000000_" + b"x" * 43, b"Bearer " + b"x" * 5000],
)  # fmt: skip
def test_a_wrong_token_is_refused(server: Running, made: Made, header: bytes | None) -> None:
    right = server.token()
    headers = {} if header is None else {"Authorization": header}
    reply = server.send(made.bundle(1), None, **headers)
    assert "token" in problem(reply, 401) and "WWW-Authenticate" in reply.headers
    unharmed(server, made, right)


def test_a_revoked_token_is_refused(server: Running, made: Made) -> None:
    accounts = Accounts(server.database)
    number, token = accounts.create_token("ada")
    other = server.token("ada")
    accounts.revoke(number)
    assert "revoked" in problem(server.send(made.bundle(1), token), 403)
    unharmed(server, made, other)


def test_a_used_up_quota_is_refused_and_not_tried_again(
    server: Running, made: Made, season: OpenSeason
) -> None:
    season.change(quota=2)
    token = server.token()
    sent = [server.send(made.bundle(n), token) for n in range(3)]
    assert "quota" in problem(sent[2], 429) and "Retry-After" not in sent[2].headers
    with pytest.raises(SubmissionError, match="quota of season 'spring' is used up"):
        Client(server.url, token, wait=30).send(made.bundle(4))  # a second attempt would take long
    # Another token of the account has the same quota; another account has its own.
    problem(server.send(made.bundle(2), server.token("ada")), 429)
    assert server.send(made.bundle(0), token).status_code == 200
    assert server.send(made.bundle(2), server.token("grace")).status_code == 201


def test_a_quota_holds_for_what_comes_at_once(
    server: Running, made: Made, season: OpenSeason
) -> None:
    season.change(quota=3)
    token, bundles = server.token(), [made.bundle(n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda one: server.send(one, token).status_code, bundles))
    assert sorted(codes) == [201] * 3 + [429] * 5 and len(server.stored()) == 3


def test_too_many_requests_are_told_when_to_come_again(
    settings: Settings, database: Database
) -> None:
    with running(replace(settings, rate=0.5, burst=3), database) as server:
        first, other = server.token(), server.token()
        # Its bucket is that of the token's making.
        Accounts(database, burst=3).caller(f"Bearer {first}")
        replies = [server.get("submissions", first) for _ in range(6)]
        last = replies[-1]
        assert problem(last, 429) == "too many requests with this token"
        assert int(last.headers["Retry-After"]) >= 1
        assert server.get("submissions", other).status_code == 200


def test_a_submission_is_shown_to_its_account_alone(server: Running, made: Made) -> None:
    ada, grace = server.token("ada"), server.token("grace")
    number = server.send(made.bundle(1), ada).json()["id"]
    assert server.get(f"submissions/{number}", ada).status_code == 200
    said = problem(server.get(f"submissions/{number}", grace), 404)
    assert said == problem(server.get("submissions/0000", ada), 404)
    assert queued(server, grace) == 0


# -- what arrives broken --------------------------------------------------------------------------


def raw(server: Running, token: str, body: bytes, digest: str, *, length: int) -> None:
    """A request that ends after its body, however long it said it would be."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"{DIGEST_HEADER}: {digest}\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)


def test_an_upload_that_is_cut_off_half_way_leaves_nothing(server: Running, made: Made) -> None:
    token, body = server.token(), made.bundle(1).read_bytes()
    digest = archive_digest(made.bundle(1))
    for part in (0, 1, len(body) // 2, len(body) - 1):
        raw(server, token, body[:part], digest, length=len(body))
    assert server.send(made.bundle(1), token).status_code == 201  # and the whole one is taken
    assert len(server.stored()) == 1 and queued(server, token) == 1


def test_an_upload_that_stops_is_given_up(
    settings: Settings, database: Database, made: Made
) -> None:
    with running(replace(settings, idle=0.3), database) as server:
        token, body = server.token(), made.bundle(1).read_bytes()
        digest = archive_digest(made.bundle(1))
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"{DIGEST_HEADER}: {digest}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head.encode() + body[:100])
            answer = b""
            while chunk := connection.recv(4096):  # it is closed after
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 408") and b"too slowly" in answer
        unharmed(server, made, token)


def test_an_account_cannot_take_all_room_for_uploads(
    settings: Settings, database: Database, made: Made
) -> None:
    with running(replace(settings, own_uploads=2), database) as server:
        ada, grace = server.token("ada"), server.token("grace")
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ada}\r\n"
            f"{DIGEST_HEADER}: sha256:{'0' * 64}\r\nContent-Length: 10\r\n\r\n"
        )
        places = [("127.0.0.1", server.port)] * 2
        with ExitStack() as stack:
            for place in places:
                stack.enter_context(socket.create_connection(place)).sendall(head.encode())
            until(lambda: len(list(server.settings.incoming.glob("*"))) == 2, 60)
            said = problem(server.send(made.bundle(1), ada), 429)
            assert said == "too many uploads of this account at once"
            assert server.send(made.bundle(2), grace).status_code == 201
        until(lambda: not list(server.settings.incoming.glob("*")), 60)
        assert server.send(made.bundle(1), ada).status_code == 201


@pytest.mark.parametrize("digest", [None, "", "sha256:abc", "sha256:" + "0" * 64])
def test_a_bundle_with_another_digest_is_refused(
    server: Running, made: Made, digest: str | None
) -> None:
    token = server.token()
    body = made.bundle(1).read_bytes()
    assert "digest" in problem(server.send(body, token, digest), 400)
    unharmed(server, made, token)


def test_an_oversized_upload_is_refused(settings: Settings, database: Database, made: Made) -> None:
    with running(replace(settings, max_upload=100_000), database) as server:
        token, large = server.token(), made.place / "large.tar.gz"
        large.write_bytes(b"\x1f\x8b" + bytes(300_000))
        assert "larger than 100,000 bytes" in problem(server.send(large, token), 413)
        # Without a length it is measured as it comes.
        assert "larger" in problem(chunked(server, token, large), 413)
        unharmed(server, made, token)


def chunked(server: Running, token: str, path: Path) -> httpx2.Response:
    """A bundle that is sent without its length."""
    content = path.read_bytes()
    parts = (content[start : start + 50_000] for start in range(0, len(content), 50_000))
    headers = {"Authorization": f"Bearer {token}", DIGEST_HEADER: archive_digest(path)}
    return httpx2.post(f"{server.url}{PATH}", headers=headers, content=parts, timeout=60)


# -- what arrives whole and is refused ------------------------------------------------------------


def tarred(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    raw_bytes = io.BytesIO()
    with tarfile.open(fileobj=raw_bytes, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw_bytes.getvalue()


def linked() -> bytes:
    link = tarfile.TarInfo("detector/detector.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return tarred([(link, b"")])


def bomb() -> bytes:
    return tarred([(tarfile.TarInfo("MANIFEST.json"), bytes(200_000_000))])


def without_manifest(files: Files) -> bytes:
    return pack({name: text for name, text in files.items() if name != MANIFEST})


def malformed(files: Files) -> bytes:
    return pack(files | {MANIFEST: b'{"schema_version": 1, "files": 3}'})


def tampered(files: Files) -> bytes:
    record = json.loads(files["record.json"])
    record["detectors"][0]["auroc"]["value"] = 1.0
    return pack(files | {"record.json": json.dumps(record).encode()})


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda _: linked(), "is a link"),
        (lambda _: tarred([(tarfile.TarInfo("../escape"), b"x")]), "leaves its folder"),
        (lambda _: tarred([(tarfile.TarInfo("/etc/escape"), b"x")]), "no relative path"),
        (lambda _: bomb(), "grows to more"),
        (lambda _: b"PK\x03\x04 and so on", "not a .tar.gz"),
        (lambda files: pack(files)[:-40], "damaged or cut off"),
        (without_manifest, "no such file"),
        (malformed, "field 'kind'|Field required|files"),
        (tampered, "the file was altered"),
    ],
    ids=["link", "parent", "absolute", "bomb", "zip", "damaged", "none", "malformed", "tampered"],
)
def test_a_bad_bundle_is_refused_with_the_reason(
    server: Running, made: Made, tmp_path: Path, content: object, match: str
) -> None:
    token, path = server.token(), tmp_path / "bad.tar.gz"
    assert callable(content)
    path.write_bytes(content(made.variant(1)))
    assert re.search(match, problem(server.send(path, token), 422))
    unharmed(server, made, token)


def test_a_malformed_submission_yaml_is_refused(server: Running, made: Made) -> None:
    def worse(files: Files) -> None:
        files["submission.yaml"] = b"schema: 1\ndetector: [\n"

    token = server.token()
    reply = server.send(made.bundle(1, worse), token)
    problem(reply, 422)
    assert "submission.yaml" in reply.text
    unharmed(server, made, token)


def test_a_run_of_another_version_or_season_is_refused(server: Running, made: Made) -> None:
    def older(content: dict[str, dict[str, dict[str, str]]]) -> None:
        content["inputs"]["versions"]["afbench"] = "0.0.1"

    def smaller(content: dict[str, dict[str, int]]) -> None:
        content["settings"]["test_scenarios"] = 7

    token = server.token()
    for change, match in ((older, "made by afbench 0.0.1"), (smaller, "test_scenarios 7; season")):
        reply = server.send(made.bundle(1, changed_record(change)), token)
        assert match in problem(reply, 422)
    unharmed(server, made, token)


def test_a_replayed_bundle_of_another_account_is_refused(server: Running, made: Made) -> None:
    ada, grace = server.token("ada"), server.token("grace")
    assert server.send(made.bundle(1), ada).status_code == 201
    assert "replay" in problem(server.send(made.bundle(1), grace), 409)

    def renamed(files: Files) -> None:
        files["submission.yaml"] = files["submission.yaml"].replace(b"A. Nother", b"Grace")

    # The same run under another name is the same run, whoever sends it.
    assert "replay" in problem(server.send(made.bundle(1, renamed), grace), 409)
    assert "that of submission" in problem(server.send(made.bundle(1, renamed), ada), 409)
    assert queued(server, grace) == 0 and len(server.stored()) == 1


@pytest.mark.parametrize(
    ("dates", "match"),
    [({"opens": "2999-01-01", "closes": "2999-02-01"}, "opens on 2999-01-01"),
     ({"opens": "2020-01-01", "closes": "2020-02-01"}, "was open until 2020-02-01")],
    ids=["not-yet", "closed"],
)  # fmt: skip
def test_a_season_that_is_not_open_takes_nothing(
    server: Running, made: Made, season: OpenSeason, dates: dict[str, str], match: str
) -> None:
    token = server.token()
    season.change(**{name: datetime.date.fromisoformat(day) for name, day in dates.items()})
    assert match in problem(server.send(made.bundle(1), token), 409)
    assert server.stored() == [] and queued(server, token) == 0
