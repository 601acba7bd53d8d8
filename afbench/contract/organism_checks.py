"""What every organism promises: a parent that can be found, and the weights that it pins."""

from __future__ import annotations

import hashlib
from pathlib import Path

from afbench.catalog.check import Check
from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import (
    AdapterSource,
    BaseSource,
    FullSource,
    OrganismManifest,
    manifest_kind,
)
from afbench.errors import UnknownNameError

_WEIGHTS = "*.safetensors"


def check_organism(manifest: OrganismManifest, folder: Path, catalog: Catalog) -> list[Check]:
    """Run every check of the organism contract. No weights are loaded.

    Args:
        catalog: where the parent and the environment are looked for; a parent may also lie
            beside the folder.
    """
    return [
        _parent(manifest, folder, catalog),
        _environment(manifest, catalog),
        _digests(manifest, folder),
    ]


def _parent(manifest: OrganismManifest, folder: Path, catalog: Catalog) -> Check:
    parent = getattr(manifest.source, "parent", None)
    if parent is not None and parent == manifest.name:
        return Check("parent", False, "the organism is its own parent")
    if parent is None or parent in catalog.organisms:
        return Check("parent", True)
    if manifest_kind(folder.resolve().parent / parent) == "organism":
        return Check("parent", True)
    return Check("parent", False, str(UnknownNameError("organism", parent, catalog.organisms)))


def _environment(manifest: OrganismManifest, catalog: Catalog) -> Check:
    name = manifest.environment
    known = name is None or name in catalog.environments
    # Not a failure: the environment may be another package's.
    return Check("environment", True, "" if known else f"'{name}' is not installed here")


def _digests(manifest: OrganismManifest, folder: Path) -> Check:
    source = manifest.source
    if not isinstance(source, AdapterSource | FullSource | BaseSource):
        return Check("digests", True)
    weights = folder / source.path
    for name, pinned in source.digests.items():
        path = weights / name
        if not path.is_file():
            return Check("digests", False, f"{name} is pinned and does not exist")
        with path.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != pinned:
            return Check("digests", False, f"{name} is {found}, and the manifest pins {pinned}")
    loose = sorted(path.name for path in weights.glob(_WEIGHTS) if path.name not in source.digests)
    return Check("digests", True, f"not pinned: {', '.join(loose)}" if loose else "")
