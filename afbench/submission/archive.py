"""The one place where an archive is unpacked: a .zip or .tar.gz, all of it or nothing.

Refused are links, devices, absolute paths and paths with "..", names that are one on some systems,
and archives that are large: in files, in bytes, in depth, or in what they grow to.
"""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from afbench.errors import ArchiveError, StorageError


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold.

    Attributes:
        packed: bytes of the archive.
        files: files and folders.
        total: bytes of all files unpacked.
        ratio: unpacked bytes for each packed one; small archives may grow more.
        depth: folders above a file.
    """

    packed: int = 64_000_000
    files: int = 500
    total: int = 256_000_000
    ratio: int = 100
    depth: int = 8

    def most(self, packed: int) -> int:
        """The most bytes that an archive of a size may grow to."""
        return min(self.total, max(_SMALL, packed * self.ratio))


DEFAULT: Final = Limits()

_SMALL: Final = 4_000_000  # a ratio says little of small archives
_CHUNK: Final = 1 << 16
_NAME: Final = 120
_ENTRY: Final = b"PK\x01\x02"  # begins each entry of a zip's directory
_DAMAGED: Final = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    KeyError,
    OverflowError,
)
# Names that Windows keeps for devices.
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}
)


def is_archive(path: Path) -> bool:
    """Whether a path is named like an archive that `unpack` reads."""
    return path.name.lower().endswith((".zip", ".tar.gz", ".tgz"))


def unpack(archive: Path, target: Path, limits: Limits = DEFAULT) -> None:
    """Unpack a .zip or .tar.gz into a new folder.

    The kind is told by the content. Files are written beside the target, which appears by a rename
    when all of them are whole; modes, owners and times in the archive are not looked at.

    Raises:
        ArchiveError: it is refused or damaged; nothing was written.
        StorageError: the target is there, or the files could not be written.
    """
    if target.exists() or target.is_symlink():
        raise StorageError("the folder is there already", where=str(target), fix="name another")
    size = _size(archive, limits)
    with _beside(target) as folder:
        root = folder / "content"
        _make(root)
        writer = _Writer(root, limits, limits.most(size), archive.name)
        try:
            with archive.open("rb") as file:
                head = file.read(4)
                file.seek(0)
                if head[:2] == b"\x1f\x8b":
                    _write_tar(file, writer, limits)
                elif head == b"PK\x03\x04":
                    _write_zip(file, writer, limits)
                else:
                    raise ArchiveError(
                        "neither a .zip nor a .tar.gz", where=archive.name, fix="pack it as one"
                    )
        except (ArchiveError, StorageError):
            raise
        except _DAMAGED as error:
            what = str(error) or type(error).__name__
            raise ArchiveError(
                f"damaged or cut off: {what[:200]}", where=archive.name, fix="pack or send it again"
            ) from None
        if not writer.files:
            raise ArchiveError("holds no file", where=archive.name)
        root.rename(target)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A .tar.gz of some files by their path; the same files give the same bytes.

    Raises:
        ArchiveError: a path is one that `unpack` would refuse.
    """
    names = _Names(Limits(files=len(files)), "the archive")
    raw = io.BytesIO()
    # Of gzip's header the time of writing is left out, of tar's all that is not the content.
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in sorted(files.items()):
            names.add(name, folder=False)
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


# -- the two formats ------------------------------------------------------------------------------


def _write_tar(file: IO[bytes], writer: _Writer, limits: Limits) -> None:
    # Headers count as well: an archive of nothing but headers, or with an endless one, is refused.
    most = writer.most + limits.files * 4 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
    with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        bounded = _Bounded(unpacked, most, writer.archive)
        with tarfile.open(fileobj=bounded, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                if member.isdir():
                    writer.folder(member.name)
                    continue
                if not member.isreg() or member.issparse():
                    raise ArchiveError(
                        f"'{_shown(member.name)}' is {_kind(member)}, and only plain files are "
                        "unpacked",
                        where=writer.archive,
                    )
                content = tar.extractfile(member)
                assert content is not None
                writer.write(member.name, content, member.size)
        while bounded.read(_CHUNK):  # to its end, where the checksum stands
            pass


def _write_zip(file: IO[bytes], writer: _Writer, limits: Limits) -> None:
    # Before the directory is read, which would hold all of its entries in memory.
    if _count(file, _ENTRY) > 2 * limits.files:
        raise writer.refused(f"holds more than {limits.files} files")
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if info.is_dir():
                writer.folder(info.filename)
                continue
            if kind not in (0, stat.S_IFREG):
                what = "a link" if stat.S_ISLNK(mode) else "a device or pipe"
                raise writer.refused(f"'{_shown(info.filename)}' is {what}, and is not unpacked")
            if info.flag_bits & 1:
                raise writer.refused(f"'{_shown(info.filename)}' is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise writer.refused(f"'{_shown(info.filename)}' is packed by another method")
            # What `filename` was cut to at a NUL is not what other programs would write.
            if info.orig_filename != info.filename and "\0" in info.orig_filename:
                raise writer.refused(f"'{_shown(info.filename)}' is no name of a file")
            with archive.open(info) as content:
                writer.write(info.filename, content, info.file_size)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    if member.isdev():
        return "a device or pipe"
    return "of a special kind"


# -- names and sizes ------------------------------------------------------------------------------


class _Names:
    """The names of an archive: each a plain relative path, and none of them twice."""

    def __init__(self, limits: Limits, archive: str) -> None:
        self._limits, self._archive = limits, archive
        self._folders: set[str] = set()
        self._files: set[str] = set()
        self._count = 0

    def add(self, name: str, *, folder: bool) -> tuple[str, ...]:
        """The parts of a path.

        Raises:
            ArchiveError: it is no plain relative path, is there already, or is one too many.
        """
        self._count += 1
        if self._count > self._limits.files:
            raise self._refused(f"holds more than {self._limits.files} files")
        problem = _problem(name, self._limits.depth)
        if problem:
            raise self._refused(f"'{_shown(name)}' {problem}")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if not folder and (not parts or name.split("/")[-1] != parts[-1]):
            raise self._refused(f"'{_shown(name)}' is no name of a file")
        keys = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        # As one file system in use compares them: without case, and composed.
        keys = [unicodedata.normalize("NFC", key).casefold() for key in keys]
        above, own = keys[:-1], keys[-1] if keys else ""
        clash = own in self._files or (own in self._folders and not folder)
        if clash or any(key in self._files for key in above):
            raise self._refused(f"'{_shown(name)}' stands there twice")
        self._folders.update(keys if folder else above)
        if not folder:
            self._files.add(own)
        return parts

    def _refused(self, what: str) -> ArchiveError:
        return ArchiveError(what, where=self._archive)


def _problem(name: str, depth: int) -> str | None:
    """Why a path is not taken, or None."""
    if not name or len(name) > 4 * _NAME or not name.isprintable():
        return "is no name of a file"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or ":" in name:
        return "is no relative path"
    if ".." in parts:
        return "leaves its folder"
    if len(parts) > depth:
        return f"lies more than {depth} folders deep"
    for part in parts:
        stem = part.partition(".")[0].lower().strip()
        if len(part.encode()) > _NAME or part[-1] in ". " or stem in _RESERVED:
            return "is no name of a file on every system"
    return None


class _Writer:
    """Writes an archive's files under a new folder, and counts what comes."""

    def __init__(self, root: Path, limits: Limits, most: int, archive: str) -> None:
        self.root, self.most, self.archive = root, most, archive
        self.files = 0
        self._names = _Names(limits, archive)
        self._written = 0

    def folder(self, name: str) -> None:
        """Make a folder."""
        self._place(self._names.add(name, folder=True))

    def write(self, name: str, content: IO[bytes], size: int) -> None:
        """Write a file of a stated size, which it must have."""
        parts = self._names.add(name, folder=False)
        self._check(size)
        path = self._place(parts[:-1]) / parts[-1]
        length = 0
        try:
            with path.open("xb") as file:
                while chunk := content.read(_CHUNK):
                    length += len(chunk)
                    self._check(length)
                    file.write(chunk)
        except OSError as error:
            if error.errno is None:  # of the archive, not of the disk
                raise
            raise StorageError(
                f"cannot write: {error.strerror}", where=str(self.root.parent.parent)
            ) from None
        if length != size:
            raise self.refused(f"'{_shown(name)}' is cut off")
        self._written += length
        self.files += 1

    def refused(self, what: str) -> ArchiveError:
        """An error of this archive."""
        return ArchiveError(what, where=self.archive)

    def _check(self, more: int) -> None:
        if self._written + more > self.most:
            raise self.refused(f"grows to more than {self.most:,} bytes")

    def _place(self, parts: tuple[str, ...]) -> Path:
        path = self.root.joinpath(*parts)
        _make(path)
        return path


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Bounded:
    """A stream that ends in an error after so many bytes."""

    def __init__(self, stream: _Readable, most: int, archive: str) -> None:
        self._stream, self._left, self._archive = stream, most, archive

    def read(self, size: int) -> bytes:
        """The next bytes."""
        content = self._stream.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ArchiveError("grows to more bytes than are unpacked", where=self._archive)
        return content


def _size(archive: Path, limits: Limits) -> int:
    try:
        status = archive.stat()
    except OSError as error:
        raise ArchiveError(f"cannot read: {error.strerror}", where=str(archive)) from None
    if not stat.S_ISREG(status.st_mode):
        raise ArchiveError("is no file", where=str(archive))
    if status.st_size > limits.packed:
        raise ArchiveError(f"is larger than {limits.packed:,} bytes", where=archive.name)
    return status.st_size


def _count(file: IO[bytes], mark: bytes) -> int:
    """How often a mark stands in a file, which is left at its beginning."""
    found, tail = 0, b""
    while chunk := file.read(_CHUNK):
        found += (tail + chunk).count(mark)
        tail = chunk[1 - len(mark) :]
    file.seek(0)
    return found


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A private folder next to the target, which is gone afterwards."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(target.parent)) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=str(path.parent)) from None


def _shown(name: str) -> str:
    """A name from an archive as a message may show it."""
    plain = "".join(char if char.isprintable() else "?" for char in name)
    return plain if len(plain) <= 60 else f"{plain[:57]}..."
