"""A bundle: a submission with the record of a run, and all that its figures rest on.

    MANIFEST.json     sha256 of every other file, and the code digest of the detector
    submission.yaml   as it was submitted
    record.json       the result record
    scores.json, evidence.json     what every figure of it is computed from
    environment.json  versions and platform
    detector/         the detector's folder, as it was run

A bundle is a .tar.gz, or a folder of the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from afbench.catalog.fields import Digest, Name
from afbench.errors import AfbenchError, BundleError
from afbench.models.engine import engine_versions
from afbench.results import evidence_file, score_file
from afbench.results.evidence_file import Evidence, read_evidence
from afbench.results.json_file import parse_model, read_bytes
from afbench.results.record import DetectorFigures, ResultRecord, load_record
from afbench.results.score_file import ScoreFile, read_scores
from afbench.store import digest_of, write_bytes
from afbench.submission import manifest as submission_file
from afbench.submission.archive import DEFAULT, Limits, is_archive, pack, unpack
from afbench.submission.folder import (
    UNPACKED,
    Submission,
    check_tree,
    open_submission,
    plain_paths,
)
from afbench.submission.manifest import SubmissionManifest, read_submission

MANIFEST: Final = "MANIFEST.json"
RECORD: Final = "record.json"
SCORES: Final = score_file.NAME
EVIDENCE: Final = evidence_file.NAME
ENVIRONMENT: Final = "environment.json"
DETECTOR: Final = "detector"

_FIX: Final = "write it again with 'afbench submit'"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleManifest(_Part):
    """MANIFEST.json: `files` are the digests of all other files by their path."""

    schema_version: Literal[1] = 1
    kind: Literal["afbench-bundle"] = "afbench-bundle"
    detector: Name
    code_digest: Digest
    files: dict[str, Digest]

    @property
    def digest(self) -> str:
        """The identity of the bundle's content, however it is packed."""
        return digest_of(self.model_dump(mode="json"))


class Surroundings(_Part):
    """environment.json: what the run was made with; nothing that names a machine or a person.

    What else the detector needs, submission.yaml pins.
    """

    versions: dict[str, str]
    system: str
    machine: str
    processors: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are whole and agree with one another.

    Attributes:
        folder: where its files lie, until it is closed.
    """

    folder: Path
    manifest: BundleManifest
    submission: SubmissionManifest
    record: ResultRecord
    surroundings: Surroundings

    @property
    def digest(self) -> str:
        """The identity of its content, however it is packed."""
        return self.manifest.digest

    @property
    def figures(self) -> DetectorFigures:
        """The record's row of the submitted detector."""
        return _row(self.record, self.manifest.detector)

    def scores(self) -> ScoreFile:
        """scores.json. Raises AfbenchError where it is malformed."""
        return read_scores(self.folder / SCORES)

    def evidence(self) -> Evidence:
        """evidence.json. Raises AfbenchError where it is malformed."""
        return read_evidence(self.folder / EVIDENCE)


def write_bundle(path: Path, submission: Submission, run: Path) -> BundleManifest:
    """Write a bundle as a .tar.gz; whole or not at all.

    Args:
        run: the folder of a finished run of the submission.

    Raises:
        BundleError: the run is of other code, or made before runs wrote all that a bundle holds.
        StorageError: it could not be written.
    """
    record = load_record(run / "result.json")
    _check_code(record, submission.plugin.name, submission.manifest.code_digest)
    if not (run / EVIDENCE).is_file():
        raise BundleError(
            "the run was made by an afbench that wrote no evidence.json",
            where=str(run),
            fix="run it again with --fresh",
        )
    files = {f"{DETECTOR}/{name}": content for name, content in submission.files.items()}
    files |= {
        submission_file.FILE: submission.text,
        RECORD: (run / "result.json").read_bytes(),
        SCORES: (run / SCORES).read_bytes(),
        EVIDENCE: (run / EVIDENCE).read_bytes(),
        ENVIRONMENT: _as_json(surroundings().model_dump(mode="json")),
    }
    manifest = BundleManifest(
        detector=submission.plugin.name,
        code_digest=submission.manifest.code_digest,
        files={name: _digest(content) for name, content in sorted(files.items())},
    )
    files[MANIFEST] = _as_json(manifest.model_dump(mode="json"))
    write_bytes(path, pack(files))
    return manifest


@contextmanager
def open_bundle(path: Path, limits: Limits = DEFAULT) -> Iterator[Bundle]:
    """A bundle, unpacked into a private folder and verified.

    Its detector's code is not run.

    Args:
        path: a .tar.gz, or a folder of the same files.

    Raises:
        ArchiveError: the archive is refused or damaged.
        BundleError: a file is missing, unlisted or altered, or its parts disagree.
    """
    with TemporaryDirectory(prefix="afbench-bundle-") as temporary, plain_paths(temporary):
        folder = path
        if is_archive(path) or path.is_file():
            folder = Path(temporary) / UNPACKED
            unpack(path, folder, limits)
        elif not path.is_dir():
            raise BundleError("there is no such bundle", where=str(path))
        yield _verified(folder, limits)


def is_bundle(path: Path) -> bool:
    """Whether a path is a bundle by the look of it: a folder with its manifest, or an archive."""
    if path.is_dir():
        return (path / MANIFEST).is_file()
    if not path.is_file():
        return False
    try:
        with TemporaryDirectory(prefix="afbench-bundle-") as temporary:
            unpack(path, Path(temporary) / "bundle")
            return (Path(temporary) / "bundle" / MANIFEST).is_file()
    except AfbenchError:
        return False


def archive_digest(path: Path) -> str:
    """sha256 of an archive's bytes, as `sha256:<hex>`: what its upload goes by."""
    return _digest(path.read_bytes())


def surroundings() -> Surroundings:
    """The versions and the platform of this process."""
    return Surroundings(
        versions=engine_versions(),
        system=platform.system(),
        machine=platform.machine(),
        processors=os.cpu_count() or 1,
    )


def _verified(folder: Path, limits: Limits) -> Bundle:
    check_tree(folder, limits)
    manifest = _read(BundleManifest, folder, MANIFEST)
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } - {MANIFEST}
    _check_files(folder, manifest, present)
    submission, _ = read_submission(folder)
    record = _record(folder)
    for name, said in (("detector", submission.detector), ("code_digest", submission.code_digest)):
        if said != getattr(manifest, name):
            raise BundleError(
                f"'{name}' is another one than in {MANIFEST}", where="submission.yaml"
            )
    _check_code(record, manifest.detector, manifest.code_digest)
    _check_detector(folder, manifest, limits)
    row = _row(record, manifest.detector)
    if row.tier != submission.tier:
        raise BundleError(
            f"the record says tier '{row.tier}', and submission.yaml '{submission.tier}'",
            where=RECORD,
        )
    return Bundle(folder, manifest, submission, record, _read(Surroundings, folder, ENVIRONMENT))


def _check_files(folder: Path, manifest: BundleManifest, present: set[str]) -> None:
    needed = {submission_file.FILE, RECORD, SCORES, EVIDENCE, ENVIRONMENT}
    missing = sorted((needed | set(manifest.files)) - present)
    if missing:
        raise BundleError("the file is missing", where=missing[0], fix=_FIX)
    unlisted = sorted(present - set(manifest.files))
    if unlisted:
        raise BundleError(f"{MANIFEST} does not list the file", where=unlisted[0], fix=_FIX)
    for name, pinned in sorted(manifest.files.items()):
        if _digest((folder / name).read_bytes()) != pinned:
            raise BundleError(
                f"the file was altered: it is not the one that {MANIFEST} lists",
                where=name,
                fix=_FIX,
            )


def _check_detector(folder: Path, manifest: BundleManifest, limits: Limits) -> None:
    """Whether the detector in the bundle is the one that was run."""
    with TemporaryDirectory(prefix="afbench-bundle-") as temporary, plain_paths(temporary):
        whole = Path(temporary) / UNPACKED
        whole.mkdir()
        for name in manifest.files:
            if name == submission_file.FILE or name.startswith(f"{DETECTOR}/"):
                target = whole / name.removeprefix(f"{DETECTOR}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((folder / name).read_bytes())
        with open_submission(whole, limits, here=False):
            pass


def _check_code(record: ResultRecord, name: str, digest: str) -> None:
    if record.inputs.detectors.get(name) != digest:
        raise BundleError(
            f"the record is of other code than the '{name}' that is submitted",
            where=RECORD,
            fix="run it again",
        )
    if name in record.inputs.saved:
        raise BundleError(f"the record is of a '{name}' that was fitted before", where=RECORD)


def _row(record: ResultRecord, name: str) -> DetectorFigures:
    for one in record.detectors:
        if one.name == name:
            return one
    raise BundleError(f"the record has no row of '{name}'", where=RECORD, fix=_FIX)


def _read(model: type[Any], folder: Path, name: str) -> Any:
    try:
        return parse_model(model, read_bytes(folder / name, 16_000_000), name)
    except AfbenchError as error:
        raise BundleError(error.what, where=error.where, fix=_FIX) from None


def _record(folder: Path) -> ResultRecord:
    read_bytes(folder / RECORD, 64_000_000)  # its size first
    try:
        return load_record(folder / RECORD)
    except RecursionError:
        raise BundleError("nested too deep", where=RECORD) from None
    except AfbenchError as error:
        raise BundleError(error.what, where=RECORD, fix=_FIX) from None


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _as_json(value: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()
