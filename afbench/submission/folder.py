"""A submission: a detector's folder with submission.yaml, or an archive of it."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import yaml

from afbench.catalog.check import check_files
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest, load_manifest, manifest_kind
from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import YamlFile, display, load_yaml
from afbench.detection.loading import detector_digest
from afbench.errors import AfbenchError, StorageError, SubmissionError
from afbench.store import write_bytes
from afbench.submission.archive import DEFAULT, Limits, is_archive, unpack
from afbench.submission.manifest import FILE, SubmissionManifest, read_submission

# No part of a submission: what tools and version control leave behind.
UNPACKED: Final = "unpacked"
STAGED: Final = "staged"
_LEFT_OUT: Final = ("__pycache__", ".*", "*.pyc")


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission whose files agree with one another.

    Attributes:
        plugin: the detector, in a copy of its folder without submission.yaml.
        manifest: submission.yaml; `text` is the file as it was.
    """

    plugin: Plugin[DetectorManifest]
    manifest: SubmissionManifest
    text: bytes

    @property
    def files(self) -> dict[str, bytes]:
        """The detector's files by their path in its folder."""
        return files_of(self.plugin.folder)


@contextmanager
def open_submission(
    path: Path, limits: Limits = DEFAULT, *, here: bool = True
) -> Iterator[Submission]:
    """A submission, checked as far as that needs none of its code, in a private copy.

    The copy is what is digested and run: files that change meanwhile change nothing.

    Args:
        path: a folder, a .zip or a .tar.gz.
        here: it is to run here, so that what it pins must be installed.

    Raises:
        ArchiveError: the archive is refused or damaged.
        ManifestError: detector.yaml or submission.yaml is missing or malformed.
        SubmissionError: they disagree, or a file leaves the folder.
    """
    with TemporaryDirectory(prefix="afbench-submission-") as temporary, plain_paths(temporary):
        folder = path
        if is_archive(path) or path.is_file():
            folder = Path(temporary) / UNPACKED
            unpack(path, folder, limits)
            folder = _inner(folder)
        elif not path.is_dir():
            raise SubmissionError("there is no such folder or archive", where=str(path))
        check_tree(folder, limits)
        submission, file = _staged(folder, Path(temporary) / STAGED)
        if here:
            _check_dependencies(submission.manifest, file)
        yield submission


@contextmanager
def plain_paths(*folders: str) -> Iterator[None]:
    """Errors name files by their path in a submission, and not where it was unpacked for a while.

    Args:
        folders: temporary ones.
    """
    try:
        yield
    except AfbenchError as error:
        for folder in folders:
            for place in (f"{folder}/{UNPACKED}/", f"{folder}/{STAGED}/", f"{folder}/"):
                error.what = error.what.replace(place, "")
                error.where = error.where.replace(place, "") if error.where else None
        raise


def write_draft(folder: Path) -> Path:
    """Write a submission.yaml with what can be known; the rest is for its authors to fill in.

    Where there is one already, only its code digest is written anew.

    Raises:
        ManifestError: detector.yaml is missing or malformed.
        StorageError: the file could not be written.
    """
    path = folder / FILE
    with copied(folder) as plugin:
        digest = detector_digest(plugin)
    if path.exists():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        new = [f"code_digest: {digest}\n" if x.startswith("code_digest:") else x for x in lines]
        write_bytes(path, "".join(new).encode())
        return path
    manifest = plugin.manifest
    draft = {
        "schema": 1,
        "detector": plugin.name,
        "authors": [],
        "licence": "TODO",
        "tier": manifest.tier,
        "budget": {"seconds": manifest.limits.seconds},
        "training_data": "",
        "dependencies": [],
        "code_digest": digest,
        "links": {},
    }
    write_bytes(path, yaml.safe_dump(draft, sort_keys=False).encode())
    return path


@contextmanager
def copied(folder: Path) -> Iterator[Plugin[DetectorManifest]]:
    """A detector in a private copy of its folder, without submission.yaml.

    Raises:
        ManifestError, SubmissionError: as `open_submission`.
    """
    with TemporaryDirectory(prefix="afbench-submission-") as temporary:
        check_tree(folder, DEFAULT)
        yield _copied(folder, Path(temporary) / STAGED)


def check_tree(folder: Path, limits: Limits) -> None:
    """Whether a folder holds plain files alone, and not too many or too large ones.

    Raises:
        SubmissionError: it does not; names the file.
    """
    files = total = 0
    for path in sorted(folder.rglob("*")):
        if any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts):
            continue
        mode = path.lstat().st_mode
        where = path.relative_to(folder).as_posix()
        if stat.S_ISLNK(mode):
            raise SubmissionError(
                "a link; a submission holds plain files alone", where=where, fix="put the file here"
            )
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise SubmissionError("a device or pipe; a submission holds plain files", where=where)
        files += 1
        total += path.stat().st_size if stat.S_ISREG(mode) else 0
        if files > limits.files or total > limits.total:
            raise SubmissionError(
                f"more than {limits.files} files or {limits.total:,} bytes", where=display(folder)
            )


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of each file of a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _inner(folder: Path) -> Path:
    """An archive may hold the detector's files, or its folder."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__"))]
    if manifest_kind(folder) is None and len(entries) == 1 and entries[0].is_dir():
        return entries[0]
    return folder


def _staged(folder: Path, target: Path) -> tuple[Submission, YamlFile]:
    manifest, file = read_submission(folder)
    text = (folder / FILE).read_bytes()
    plugin = _copied(folder, target)
    _check_agreement(manifest, file, plugin)
    report, _ = check_files(plugin.folder)
    if not report.passed:
        raise SubmissionError(report.failures[0], where=display(folder))
    return Submission(plugin, manifest, text), file


def _copied(folder: Path, target: Path) -> Plugin[DetectorManifest]:
    """The detector in a copy without submission.yaml, under its own name."""
    if manifest_kind(folder) != "detector":
        raise SubmissionError(
            "holds no detector.yaml", where=display(folder), fix="submit a detector's folder"
        )
    name = _name_in(folder)
    copy = target / name
    try:
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*_LEFT_OUT, FILE))
    except OSError as error:
        raise StorageError(f"cannot copy the folder: {error}", where=display(folder)) from None
    loaded = load_manifest(copy)
    assert isinstance(loaded, DetectorManifest)  # as `manifest_kind` has it
    return Plugin(loaded.name, "detector", copy, loaded)


def _name_in(folder: Path) -> str:
    """The name in detector.yaml; of an archive, the folder's own says nothing."""
    return validate(DetectorManifest, load_yaml(folder / "detector.yaml")).name


def _check_agreement(
    manifest: SubmissionManifest, file: YamlFile, plugin: Plugin[DetectorManifest]
) -> None:
    """Whether submission.yaml says of the detector what its folder does.

    Raises:
        ManifestError: it does not; names the line and what is there.
    """
    detector = plugin.manifest
    pairs = (
        (("detector",), manifest.detector, detector.name),
        (("tier",), manifest.tier, detector.tier),
        (("budget", "seconds"), manifest.budget.seconds, detector.limits.seconds),
    )
    for loc, said, is_ in pairs:
        if said != is_:
            raise file.error(loc, f"says '{said}', and detector.yaml '{is_}'", fix="make them one")
    digest = detector_digest(plugin)
    if manifest.code_digest != digest:
        raise file.error(
            ("code_digest",),
            f"is not that of the folder, which is {digest}",
            fix="'afbench submit DIR --init' writes it anew",
        )


def _check_dependencies(manifest: SubmissionManifest, file: YamlFile) -> None:
    """Whether what is pinned is what runs here.

    Raises:
        ManifestError: another version is installed, or none.
    """
    for number, pin in enumerate(manifest.dependencies):
        name, _, wanted = pin.partition("==")
        try:
            found = version(name)
        except PackageNotFoundError:
            found = ""
        if found != wanted:
            there = f"{found} is installed" if found else "it is not installed"
            raise file.error(
                ("dependencies", number), f"pins {pin}, and {there}", fix=f"pip install {pin}"
            )
