"""Builds a detector from its folder."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.detection.detector import Detector
from afbench.detection.guard import PLUGIN_MODULE, guarded
from afbench.errors import DetectorError
from afbench.store import digest_of

if TYPE_CHECKING:
    from afbench.catalog.discovery import Plugin
    from afbench.catalog.manifests import DetectorManifest


def detector_factory(plugin: Plugin[DetectorManifest]) -> Callable[[], Detector]:
    """A function that makes a fresh, unfitted detector.

    Raises:
        DetectorError: the entry does not exist, cannot be imported, or is no Detector.
    """
    manifest = plugin.manifest
    file, _, attribute = manifest.entry.partition(":")
    path = plugin.folder / file

    def load() -> type[Detector]:
        module_name = f"{PLUGIN_MODULE}{manifest.name.replace('-', '_')}_{_short(str(path))}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise DetectorError(f"cannot import {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        found = getattr(module, attribute, None)
        if not (isinstance(found, type) and issubclass(found, Detector)):
            raise DetectorError(
                f"'{attribute}' is not a class derived from afbench.detection.Detector",
                where=str(path),
                fix="check 'entry' in detector.yaml",
            )
        return found

    cls = guarded(manifest.name, "import", manifest.limits.seconds, load)
    return lambda: guarded(
        manifest.name,
        "construction",
        manifest.limits.seconds,
        # A copy: what one detector does to a list in its params, the next one must not see.
        lambda: cls(**copy.deepcopy(manifest.params)),
    )


def detector_digest(plugin: Plugin[DetectorManifest]) -> str:
    """Identity of a detector: its manifest, its code, and the data that lies beside it."""
    files = {
        path.relative_to(plugin.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(plugin.folder.rglob("*"))
        if path.is_file() and _shapes_scores(path.relative_to(plugin.folder))
    }
    return digest_of([plugin.manifest.model_dump(mode="json", exclude={"summary"}), files])


def _shapes_scores(path: Path) -> bool:
    """False for the manifest (counted as it reads), prose, tests, caches and hidden files."""
    hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
    prose = path.suffix == ".md" or path.name.startswith("test_")
    return not (hidden or prose or path.as_posix() == "detector.yaml")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
