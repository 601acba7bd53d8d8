"""Bundles of the same run with other detectors: made by the dozen, without any model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import load_manifest
from afbench.detection.loading import detector_digest
from afbench.results.record import ResultRecord
from afbench.submission.archive import pack, unpack
from afbench.submission.bundle import DETECTOR, MANIFEST, RECORD, write_bundle
from afbench.submission.folder import files_of, open_submission
from tests.submission.small_run import LENGTH, NAME, folder_of, run_of

Files = dict[str, bytes]


@dataclass(frozen=True)
class Made:
    """The files of a bundle, as a start for others."""

    place: Path
    files: Files

    def bundle(
        self, number: int, change: Callable[[Files], None] | None = None, *, code: bytes = b""
    ) -> Path:
        """A sound bundle of a detector that differs in a line of code; or one that was changed."""
        path = self.place / f"{number}-{hash((change, code))}.tar.gz"
        if not path.exists():
            files = self.variant(number, code)
            if change is not None:
                change(files)
                listed_anew(files)
            path.write_bytes(pack(files))
        return path

    def variant(self, number: int, further: bytes = b"") -> Files:
        """The files of a bundle of another detector, all of which agree."""
        files = dict(self.files)
        code = f"{DETECTOR}/detector.py"
        files[code] += further + f"# {number}\n".encode()
        folder = self.place / "staged" / f"{number}-{hash(further)}" / NAME
        for name, content in files.items():
            if name.startswith(f"{DETECTOR}/"):
                path = folder / name.removeprefix(f"{DETECTOR}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        manifest: Any = load_manifest(folder)
        digest = detector_digest(Plugin(NAME, "detector", folder, manifest))
        said = yaml.safe_load(files["submission.yaml"]) | {"code_digest": digest}
        files["submission.yaml"] = yaml.safe_dump(said, sort_keys=False).encode()
        record = ResultRecord.model_validate_json(files[RECORD])
        inputs = record.inputs.model_copy(update={"detectors": {NAME: digest}})
        files[RECORD] = as_json(of_record(record.model_copy(update={"inputs": inputs})))
        listed_anew(files, code_digest=digest)
        return files


def base_bundle(place: Path) -> Made:
    folder = folder_of(place, code=LENGTH, tier="text")
    run = run_of(place, folder)
    with open_submission(folder) as submission:
        write_bundle(place / "base.tar.gz", submission, run)
    unpack(place / "base.tar.gz", place / "base")
    return Made(place, files_of(place / "base"))


def changed_record(change: Callable[[dict[str, Any]], None]) -> Callable[[Files], None]:
    """A record that says something else, and is whole all the same."""

    def act(files: Files) -> None:
        content = json.loads(files[RECORD])
        change(content)
        files[RECORD] = as_json(of_record(ResultRecord.model_validate(content)))

    return act


def listed_anew(files: Files, **fields: str) -> None:
    """MANIFEST.json of the files as they are."""
    manifest = json.loads(files[MANIFEST]) | fields
    manifest["files"] = {
        name: f"sha256:{hashlib.sha256(content).hexdigest()}"
        for name, content in sorted(files.items())
        if name != MANIFEST
    }
    files[MANIFEST] = as_json(manifest)


def of_record(record: ResultRecord) -> Any:
    return record.with_digest().model_dump(mode="json")


def as_json(value: Any) -> bytes:
    return f"{json.dumps(value, indent=1, ensure_ascii=False)}\n".encode()
