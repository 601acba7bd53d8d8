"""Builds a detector from its folder."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from afbench.detection.detector import Detector
from afbench.detection.guard import guarded
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
        module_name = f"afbench_plugin_{manifest.name.replace('-', '_')}_{_short(str(path))}"
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
    params = dict(manifest.params)
    return lambda: guarded(
        manifest.name, "construction", manifest.limits.seconds, lambda: cls(**params)
    )


def detector_digest(plugin: Plugin[DetectorManifest]) -> str:
    """Identity of a detector: its manifest and every Python file of its folder."""
    files = {
        path.relative_to(plugin.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(plugin.folder.rglob("*.py"))
        if not path.name.startswith("test_")
    }
    return digest_of([plugin.manifest.model_dump(mode="json", exclude={"summary"}), files])


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
