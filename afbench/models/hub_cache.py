"""The files of one commit in the hub's cache, in its documented layout.

Beside the blobs lies what the hub said of a commit's files (`afbench/<commit>.json`). A commit
never changes, so the hub is asked once, and what is complete is used without a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from afbench.errors import AfbenchError, DigestMismatchError
from afbench.models.digests import file_digest
from afbench.models.hub_transfer import Repository, explain
from afbench.store import write_json

INDEX: Final = "model.safetensors.index.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it.

    Attributes:
        name: relative to the repository's root.
        size: in bytes.
        digest: "sha256:<hex>" of a large file, "git:<hex>" (git's name of the blob) of a small one.
    """

    name: str
    size: int
    digest: str

    @property
    def blob(self) -> str:
        """What the cache calls its content."""
        return self.digest.partition(":")[2]

    def is_whole(self, path: Path) -> bool:
        """Whether a local file has the listed size; it is not read."""
        return size_of(path) == self.size and path.is_file()

    def is_content_of(self, path: Path) -> bool:
        """Whether a local file has the listed content; it is read."""
        if self.digest.startswith("sha256:"):
            return file_digest(path) == self.digest
        content = path.read_bytes()
        head = f"blob {len(content)}\0".encode()
        return hashlib.sha1(head + content, usedforsecurity=False).hexdigest() == self.blob


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where the files of a commit lie.

    Attributes:
        repository: with its commit as the revision.
        cache: the hub's cache (HF_HUB_CACHE).
    """

    repository: Repository
    cache: Path

    @property
    def storage(self) -> Path:
        """All that the cache holds of the repository."""
        return self.cache / "--".join(["models", *self.repository.repo_id.split("/")])

    @property
    def folder(self) -> Path:
        """The commit's files under their names, as links to blobs."""
        return self.storage / "snapshots" / str(self.repository.revision)

    @property
    def _listing(self) -> Path:
        return self.storage / "afbench" / f"{self.repository.revision}.json"

    def blob(self, file: RemoteFile) -> Path:
        """Where a file's content lies."""
        return self.storage / "blobs" / file.blob

    def part(self, file: RemoteFile) -> Path:
        """Where a file lies while it comes."""
        return self.storage / "blobs" / f"{file.blob}.afbench.incomplete"

    def lock(self, file: RemoteFile) -> Path:
        """What a process holds while it fetches a file."""
        return self.cache / ".locks" / self.storage.name / f"{file.blob}.lock"

    def holds(self, file: RemoteFile) -> bool:
        """Whether a file is there in full length, under its name."""
        return file.is_whole(self.folder / file.name)

    def listing(self) -> tuple[RemoteFile, ...] | None:
        """What the hub said of this commit when it was fetched; None if it was not."""
        try:
            rows = json.loads(self._listing.read_text("utf-8"))["files"]
            return tuple(RemoteFile(str(name), int(size), str(pin)) for name, size, pin in rows)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_listing(self, listing: Iterable[RemoteFile]) -> None:
        """Remember what the hub said.

        Raises:
            StorageError: it could not be written.
        """
        rows = [[file.name, file.size, file.digest] for file in listing]
        write_json(self._listing, {"files": rows})

    def link(self, file: RemoteFile) -> None:
        """Put a blob under its file's name, as the hub's client does."""
        blob, pointer = self.blob(file), self.folder / file.name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        try:
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        except FileExistsError:
            pass  # another process was quicker
        except OSError:  # no symbolic links here
            os.replace(blob, pointer)

    def verify(self, files: Iterable[RemoteFile]) -> None:
        """Read files, and remove the first that is not what it should be.

        Raises:
            DigestMismatchError: there was one.
            AfbenchError: one cannot be read.
        """
        for file in files:
            pointer = self.folder / file.name
            try:
                same = file.is_content_of(pointer)
            except OSError as error:
                raise explain(error, self.repository, file.name) from None
            if same:
                continue
            for path in (pointer.resolve(), pointer, self.blob(file)):
                path.unlink(missing_ok=True)
            raise DigestMismatchError(
                f"{file.name} of {self.repository} in the cache is corrupted, or not the pinned "
                "content",
                where=self.repository.where,
                fix="it was removed; run it again to fetch it afresh",
            )

    def check_room(self, needed: int) -> None:
        """Check that the disk has room for so many bytes.

        Raises:
            AfbenchError: it has not.
            OSError: the cache cannot be made.
        """
        self.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.cache).free
        if needed > free:
            raise self.repository.error(
                f"the disk has no room for {self.repository}: {size_text(needed)} are needed and "
                f"{size_text(free)} are free",
                "free some space, or set HF_HOME elsewhere",
            )

    def as_others_left_it(self, patterns: Sequence[str], digests: Mapping[str, str]) -> Path:
        """The folder, without what the hub said of it: as `hf download` put it there.

        Raises:
            DigestMismatchError: a pinned file has other content; it is removed.
            AfbenchError: it is not there, or not with all its weights.
        """
        try:
            snapshot_download(
                self.repository.repo_id,
                revision=self.repository.revision,
                cache_dir=self.cache,
                allow_patterns=list(patterns),
                local_files_only=True,
            )
        except HFValidationError as error:
            raise explain(error, self.repository) from None
        except LocalEntryNotFoundError:
            raise self.not_cached() from None
        for name in (*self._weights(patterns), *digests):
            if not (self.folder / name).is_file():
                raise self.not_cached(name)
        self.verify(RemoteFile(name, 0, digest) for name, digest in sorted(digests.items()))
        return self.folder

    def not_cached(self, file: str | None = None) -> AfbenchError:
        """The error where something is needed that only the hub has, and it may not be asked."""
        return self.repository.error(
            f"cannot load {self.repository}: {file or 'it'} is not in the cache, and downloads are "
            "switched off",
            "unset HF_HUB_OFFLINE, or run 'afbench organisms fetch' where there is a network",
        )

    def _weights(self, patterns: Sequence[str]) -> list[str]:
        """Names of the weights that must be there: an adapter's, or a model's shards."""
        if ADAPTER_WEIGHTS in patterns:
            return [ADAPTER_WEIGHTS]
        try:
            shards = json.loads((self.folder / INDEX).read_text("utf-8"))["weight_map"].values()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ["model.safetensors"]
        return sorted({str(name) for name in shards})


def size_of(path: Path) -> int:
    """A file's bytes; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def size_text(size: float) -> str:
    """A number of bytes as users read it: `141.1 GB`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"
