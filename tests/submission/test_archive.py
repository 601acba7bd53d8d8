"""Archives from strangers: what is refused leaves nothing behind, what is taken stays inside."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.errors import AfbenchError, ArchiveError, StorageError
from afbench.submission.archive import DEFAULT, Limits, pack, unpack

SMALL = Limits(packed=200_000, files=20, total=1_000_000, ratio=100, depth=4)
GOOD = {"detector.yaml": b"name: x\n", "data/weights.json": b"[1, 2]\n"}


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, to: str = "") -> bytes:
    """A .tar.gz of one member of any kind."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return tar((info, content if kind == tarfile.REGTYPE else b""))


def zipped(name: str, content: bytes = b"x", mode: int = 0, method: int = 0) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, method
        file.writestr(info, content)
    return raw.getvalue()


def unpacked(place: Path, content: bytes, limits: Limits = SMALL) -> dict[str, bytes]:
    archive = place / "given"
    archive.write_bytes(content)
    unpack(archive, place / "out", limits)
    root = place / "out"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def refused(place: Path, content: bytes, match: str, limits: Limits = SMALL) -> None:
    """It is refused in one line, and nothing of it is left anywhere."""
    place.mkdir(exist_ok=True)
    with pytest.raises(ArchiveError, match=match) as error:
        unpacked(place, content, limits)
    assert "\n" not in str(error.value)
    assert [path.name for path in place.iterdir()] == ["given"]


def test_what_is_packed_comes_out_as_it_was(tmp_path: Path) -> None:
    assert unpacked(tmp_path, pack(GOOD)) == GOOD


def test_the_same_files_make_the_same_archive() -> None:
    assert pack(GOOD) == pack(dict(reversed(GOOD.items())))


def test_a_zip_comes_out_as_it_was(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("data")
        for name, content in GOOD.items():
            file.writestr(name, content)
    assert unpacked(tmp_path, raw.getvalue()) == GOOD


def test_modes_of_an_archive_are_not_taken_over(tmp_path: Path) -> None:
    info = tarfile.TarInfo("run.sh")
    info.size, info.mode = 1, 0o6777
    unpacked(tmp_path, tar((info, b"x")))
    assert not (tmp_path / "out" / "run.sh").stat().st_mode & 0o7111


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../out", "a/../../b", "a/..", "C:/x", "\\\\host\\x", "a\\..\\b", "a\nb", "..",
     "con.txt", "a/nul", "trailing.", "x" * 200, "a/b/c/d/e/f/g/h/i"],
)  # fmt: skip
def test_a_path_that_leaves_its_folder_or_is_none_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "tar", member(name), "path|folder|name")
    refused(tmp_path / "zip", zipped(name), "path|folder|name")
    with pytest.raises(ArchiveError):
        pack({name: b"x"})


@pytest.mark.parametrize(
    ("kind", "match"),
    [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.CHRTYPE, "a device"),
     (tarfile.BLKTYPE, "a device"), (tarfile.FIFOTYPE, "a device or pipe")],
)  # fmt: skip
def test_a_link_or_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes, match: str) -> None:
    refused(tmp_path, member("x", kind=kind, to="/etc/passwd"), match)


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_a_link_or_device_in_a_zip_is_refused(tmp_path: Path, mode: int) -> None:
    refused(tmp_path, zipped("x", b"/etc/passwd", mode=mode), "is a (link|device or pipe)")


def test_a_link_and_then_a_file_through_it_writes_nothing_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tarfile.TarInfo("x")
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    file = tarfile.TarInfo("x/y")
    file.size = 1
    refused(tmp_path / "in", tar((link, b""), (file, b"z")), "a link")
    assert not list(outside.iterdir())


def test_a_bomb_is_refused_before_it_is_large(tmp_path: Path) -> None:
    limits = Limits(packed=10_000_000, files=10, total=40_000_000, ratio=50)
    refused(tmp_path / "tar", pack({"x": bytes(30_000_000)}), "grows to more", limits)
    raw = zipped("x", bytes(30_000_000), method=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "zip", raw, "grows to more", limits)


def test_many_files_are_refused(tmp_path: Path) -> None:
    many = {f"f{number}": b"" for number in range(21)}
    refused(tmp_path / "tar", pack(many), "more than 20 files")
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        for name in many:
            file.writestr(name, "")
    refused(tmp_path / "zip", raw.getvalue(), "more than 20 files")


def test_an_endless_header_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "c" * 6_000_000}
    refused(tmp_path, tar((info, b"")), "grows to more bytes")


def test_a_large_archive_is_not_even_opened(tmp_path: Path) -> None:
    refused(tmp_path, random.Random(0).randbytes(200_001), "larger than 200,000 bytes")


@pytest.mark.parametrize("twice", [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "a"),
                                   ("\u00e9", "e\u0301")])  # fmt: skip
def test_two_files_that_are_one_on_some_systems_are_refused(
    tmp_path: Path, twice: tuple[str, str]
) -> None:
    infos = [tarfile.TarInfo(name) for name in twice]
    refused(tmp_path, tar(*((info, b"") for info in infos)), "stands there twice")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    whole = pack(GOOD | {"more": random.Random(0).randbytes(5_000)})
    refused(tmp_path / "tar", whole[: int(len(whole) * share)], "damaged or cut off")


def test_a_file_that_is_not_as_long_as_it_says_is_refused(tmp_path: Path) -> None:
    raw = bytearray(zipped("x", b"x" * 50))
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<L", 40)
    refused(tmp_path, bytes(raw), "damaged|cut off")


def test_an_encrypted_or_oddly_packed_file_is_refused(tmp_path: Path) -> None:
    raw = bytearray(zipped("x"))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + at] |= 1
    refused(tmp_path / "one", bytes(raw), "encrypted")
    raw = bytearray(zipped("x", b"y" * 90, method=zipfile.ZIP_BZIP2))
    refused(tmp_path / "two", bytes(raw), "another method")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18), b"\x1f\x8b"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, content, "neither|damaged")


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, pack({}), "holds no file")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="there already"):
        unpacked(tmp_path, pack(GOOD))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_is_not_read_as_an_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="is no file"):
        unpack(Path("/dev/full"), tmp_path / "out")


def harmless(place: Path, content: bytes) -> None:
    """It is unpacked within its folder, or refused and gone."""
    try:
        found = unpacked(place, content)
    except AfbenchError:
        assert {path.name for path in place.iterdir()} == {"given"}
        return
    assert sum(map(len, found.values())) <= DEFAULT.total
    for path in (place / "out").rglob("*"):
        assert not path.is_symlink()
        assert path.resolve().is_relative_to((place / "out").resolve())


NAMES = st.text("ab./\\:\0\u00e9A", max_size=12)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])


@given(members=st.lists(st.tuples(NAMES, KINDS, NAMES, st.binary(max_size=20)), max_size=6))
@settings(max_examples=150)
def test_any_tar_is_harmless(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[str, bytes, str, bytes]],
) -> None:
    parts = []
    for name, kind, to, content in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, to
        info.size = len(content) if kind == tarfile.REGTYPE else 0
        parts.append((info, content if kind == tarfile.REGTYPE else b""))
    harmless(tmp_path_factory.mktemp("any"), tar(*parts))


@given(where=st.integers(0, 10_000), bits=st.binary(min_size=1, max_size=8), packed=st.booleans())
@settings(max_examples=150)
def test_any_damage_is_harmless(
    tmp_path_factory: pytest.TempPathFactory, where: int, bits: bytes, packed: bool
) -> None:
    make: Callable[[], bytes] = (lambda: zipped("a/b", b"content")) if packed else _plain_tar
    raw = bytearray(make())
    at = where % len(raw)
    raw[at : at + len(bits)] = bits
    # What is damaged inside of gzip reaches the reader of tar only with a checksum that fits.
    content = bytes(raw) if packed else gzip.compress(bytes(raw))
    harmless(tmp_path_factory.mktemp("any"), content)


def _plain_tar() -> bytes:
    return gzip.decompress(pack({"a/b": b"content", "c": b"more"}))
