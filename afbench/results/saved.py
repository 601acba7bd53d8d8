"""A fitted detector in a folder: its state, what it was fitted on, and its thresholds.

    saved.json            what it is and was fitted on, with a digest of every other file
    detector.yaml         the manifest, as it was
    state.json, state.safetensors     what the fit has learned (see `detection.state`)
    held-out.safetensors  scores of fit cases by fits that had not seen their recipe family

No file holds code or is unpickled. The detector's code comes from the plug-in of its name, which
must be the one that was fitted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from afbench.cases.splits import Member, SplitName, is_held_out
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.harness import FittedDetector
from afbench.detection.loading import detector_digest, detector_factory
from afbench.detection.state import ARRAYS_FILE, VALUES_FILE, load_state, save_state
from afbench.errors import AfbenchError, DigestMismatchError, StorageError
from afbench.store import digest_of, write_bytes, write_json

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog, Plugin
    from afbench.sandbox.host import DetectorFactory

SAVED_FILE: Final = "saved.json"
MANIFEST_FILE: Final = "detector.yaml"
HELD_OUT_FILE: Final = "held-out.safetensors"
_FILES: Final = (MANIFEST_FILE, VALUES_FILE, ARRAYS_FILE, HELD_OUT_FILE)


class FittedOn(BaseModel):
    """One organism that a detector was fitted on, as splits see it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    base: str
    environment: str
    family: str
    seed: int
    faker: bool

    def as_member(self, name: str) -> Member:
        """The same for the splits."""
        return Member(name, self.base, self.environment, self.family, self.seed, self.faker)


class SavedDetector(BaseModel):
    """saved.json.

    Attributes:
        detector, detector_digest: its name, and the digest of its manifest and code.
        shape: decoder blocks and width of the base whose activations it was fitted on.
        organisms: what it was fitted on.
        environments: their digests.
        scenarios: fit scenarios of each organism.
        thresholds: by false-positive rate, of fit organisms whose recipe family was held out; None
            where the fit side held too few families.
        chosen: what it chose in its fit.
        fits: how many fits that took.
        files: the digest of every other file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    kind: Literal["afbench-saved-detector"] = "afbench-saved-detector"
    detector: str
    detector_digest: str
    shape: tuple[int, int]
    organisms: dict[str, FittedOn]
    environments: dict[str, str]
    scenarios: int
    seed: int
    versions: dict[str, str]
    thresholds: dict[str, float | None]
    chosen: dict[str, str | float | int]
    fits: int
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """The identity of all of it."""
        return digest_of(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved detector that was read and checked.

    Attributes:
        folder: where it lies.
        about: what it is.
        plugin: its code, under a name that tells it from a detector that is fitted anew.
    """

    folder: Path
    about: SavedDetector
    plugin: Plugin[DetectorManifest]

    @property
    def name(self) -> str:
        """The detector's name and the beginning of the saved state's digest."""
        return self.plugin.name

    def fitted(self, factory: DetectorFactory = detector_factory) -> FittedDetector:
        """The detector, ready to score.

        Args:
            factory: makes it, in this process or in a sandbox.

        Raises:
            AfbenchError: the files are damaged, or do not fit the detector.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        detector = factory(self.plugin)()
        load_state(detector, self.folder, self.about.detector_digest)
        try:
            held = load((self.folder / HELD_OUT_FILE).read_bytes())
            scores, labels = held["scores"].astype("float64"), held["labels"].astype("bool")
        except (OSError, SafetensorError, ValueError, KeyError):
            raise _damaged(self.folder / HELD_OUT_FILE) from None
        return FittedDetector(detector, scores, labels, dict(self.about.chosen), fits=0)

    def check_shape(self, organism: str, shape: tuple[int, int]) -> None:
        """Whether it can read an organism.

        Raises:
            AfbenchError: the organism has another number of layers or another width.
        """
        if self.about.shape != shape:
            own, other = ("{} layers of width {}".format(*one) for one in (self.about.shape, shape))
            raise AfbenchError(
                f"the saved detector was fitted on {own}, and '{organism}' has {other}",
                where=str(self.folder),
                fix="score organisms of the same base, or fit it anew",
            )

    def check_split(self, test: Sequence[Member], split: SplitName) -> None:
        """Whether a split lets it be tested on some organisms.

        Raises:
            AfbenchError: it was fitted on what the split holds out.
        """
        for name, one in sorted(self.about.organisms.items()):
            if is_held_out(one.as_member(name), test, split):
                raise AfbenchError(
                    f"the saved detector was fitted on '{name}', which split '{split}' holds out",
                    where=str(self.folder),
                    fix="score organisms of another recipe or environment, or --split "
                    "in-distribution, where its own organisms meet new scenarios",
                )


def save_detector(
    folder: Path, plugin: Plugin[DetectorManifest], fitted: FittedDetector, **about: Any
) -> SavedDetector:
    """Write a fitted detector into a folder; saved.json last, so that it is whole if that is there.

    Args:
        about: the further fields of `SavedDetector`.

    Raises:
        DetectorError: it does not say what its fit has learned.
        StorageError: a file could not be written.
    """
    import numpy as np
    from safetensors.numpy import save

    digest = detector_digest(plugin)
    save_state(fitted.detector, folder, digest)
    held: dict[str, Any] = {
        "scores": fitted.held_out_scores,
        "labels": fitted.held_out_labels.astype(np.uint8),
    }
    write_bytes(folder / HELD_OUT_FILE, save(held))
    write_bytes(folder / MANIFEST_FILE, (plugin.folder / MANIFEST_FILE).read_bytes())
    saved = SavedDetector(
        detector=plugin.name,
        detector_digest=digest,
        chosen=fitted.chosen,
        fits=fitted.fits,
        files={name: _digest_of_file(folder / name) for name in _FILES},
        **about,
    )
    write_json(folder / SAVED_FILE, saved.model_dump(mode="json"))
    return saved


def is_saved(path: Path) -> bool:
    """Whether a saved detector lies in a folder."""
    return (path / SAVED_FILE).is_file()


def read_saved(folder: Path, catalog: Catalog) -> Saved:
    """Read and check a saved detector.

    Raises:
        StorageError: there is none, or its files are damaged.
        UnknownNameError: no detector of its name is installed.
        DigestMismatchError: the installed detector is not the one that was fitted, or a file is
            not as it was saved.
    """
    about = _about(folder)
    for name in _FILES:
        if about.files.get(name) != _digest_of_file(folder / name):
            raise DigestMismatchError("not the file that was saved", where=str(folder / name))
    plugin = catalog.get("detector", about.detector)
    if detector_digest(plugin) != about.detector_digest:
        raise DigestMismatchError(
            f"the installed detector '{plugin.name}' is not the one that was fitted: its manifest "
            "or code differs",
            where=str(folder),
            fix="install the version that was, or fit and save it again",
        )
    name = f"{plugin.name}@{about.digest.removeprefix('sha256:')[:8]}"
    manifest = plugin.manifest.model_copy(update={"name": name})
    return Saved(folder.resolve(), about, replace(plugin, name=name, manifest=manifest))


def _about(folder: Path) -> SavedDetector:
    path = folder / SAVED_FILE
    if not path.is_file() or path.is_symlink():
        raise StorageError(
            "no saved detector", where=str(folder), fix="'afbench detectors save' writes one"
        )
    try:
        return SavedDetector.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, RecursionError, ValidationError):
        raise _damaged(path) from None


def _digest_of_file(path: Path) -> str:
    if path.is_symlink():
        raise StorageError("a saved detector holds no links", where=str(path))
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError as error:
        raise StorageError(f"cannot read the file: {error.strerror}", where=str(path)) from None


def _damaged(path: Path) -> StorageError:
    return StorageError("not a saved detector, or damaged", where=str(path))
