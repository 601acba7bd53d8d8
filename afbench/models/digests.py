"""What a model is, by content: file digests, and one identity for each organism."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import (
    AdapterSource,
    BaseSource,
    FullSource,
    HubSource,
    OrganismManifest,
    PromptedSource,
    VariantSource,
)
from afbench.errors import AfbenchError, DigestMismatchError

# What decides a model's behaviour: weights, config, tokenizer, chat template.
_IDENTITY_SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model"})
_LocalSource = AdapterSource | FullSource | BaseSource


def file_digest(path: Path) -> str:
    """ "sha256:<hex>" of a file's content.

    A file that has not changed (size and modification time) is not read again in one process.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    return _digest_of(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_of(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def source_folder(plugin: Plugin[OrganismManifest]) -> Path:
    """The folder that a local source's files lie in."""
    source = plugin.manifest.source
    if not isinstance(source, _LocalSource):
        raise AfbenchError(
            f"a source of type '{source.type}' has no folder", where=f"organism '{plugin.name}'"
        )
    return plugin.folder / source.path


def identity_files(folder: Path) -> dict[str, Path]:
    """The files of a folder that decide a model's behaviour, by their relative POSIX path."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix in _IDENTITY_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def verify(plugin: Plugin[OrganismManifest]) -> None:
    """Check the organism's own files against its manifest; its parent's are not looked at.

    `source.digests` names files relative to `source.path`. Where it is empty (a fresh scaffold)
    only the presence of weights is checked. Hub and prompted organisms have no files of their
    own.

    Raises:
        DigestMismatchError: a pinned file is missing or corrupted, weights that nobody pinned
            lie beside pinned ones, or there are no weights.
    """
    source = plugin.manifest.source
    if not isinstance(source, _LocalSource):
        return
    folder = source_folder(plugin)
    for name, pinned in sorted(source.digests.items()):
        path = folder / name
        if not path.is_file():
            raise _mismatch(plugin, f"{source.path}/{name} is missing")
        if file_digest(path) != pinned:
            raise _mismatch(plugin, f"{source.path}/{name} is corrupted: not the pinned content")
    weights = [name for name in identity_files(folder) if name.endswith(".safetensors")]
    if not weights:
        raise _mismatch(plugin, f"{source.path} holds no weights: a .safetensors file is missing")
    unpinned = [name for name in weights if name not in source.digests]
    if source.digests and unpinned:
        raise DigestMismatchError(
            f"{source.path}/{unpinned[0]} is not pinned",
            where=f"organism '{plugin.name}'",
            fix="add it to source.digests in organism.yaml, or remove it",
        )


def _mismatch(plugin: Plugin[OrganismManifest], what: str) -> DigestMismatchError:
    return DigestMismatchError(
        what,
        where=f"organism '{plugin.name}'",
        fix=f"run 'afbench organisms build {plugin.name}', or restore it from git",
    )


def parent_of(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None = None
) -> Plugin[OrganismManifest] | None:
    """The organism that this one was made from, or None for a base.

    Args:
        default_parent: stands in for a prompted organism whose manifest names no parent.

    Raises:
        AfbenchError: a prompted organism has no parent at all.
        UnknownNameError: there is no organism of the parent's name.
    """
    source = plugin.manifest.source
    if isinstance(source, BaseSource | HubSource):
        return None
    name = source.parent or default_parent
    if name is None:
        raise AfbenchError(
            "a prompted organism needs a model to prompt",
            where=f"organism '{plugin.name}'",
            fix="set source.parent in organism.yaml, or name a model for the run",
        )
    return catalog.get("organism", name)


def organism_digest(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None = None
) -> str:
    """Identity of an organism: "sha256:<hex>" over everything that decides its replies.

    That is: the digests of its weights, config, tokenizer and chat template (as the manifest
    pins them; files that it does not pin are read), those of its parent, its system prompt, and
    for a hub model its id and revision. Its name, card and recipe do not enter.

    Raises:
        AfbenchError: as `parent_of`, or organisms are each other's parents.
    """
    return _digest(plugin, catalog, default_parent, ())


def organism_digest_verified(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None = None
) -> str:
    """`organism_digest`, after the files of the organism and of all its parents were verified.

    Raises:
        DigestMismatchError: as `verify`.
        AfbenchError: as `organism_digest`.
    """
    seen: list[str] = []
    link: Plugin[OrganismManifest] | None = plugin
    while link is not None and link.name not in seen:
        verify(link)
        seen.append(link.name)
        link = parent_of(link, catalog, default_parent)
    return organism_digest(plugin, catalog, default_parent)


def _digest(
    plugin: Plugin[OrganismManifest],
    catalog: Catalog,
    default_parent: str | None,
    children: tuple[str, ...],
) -> str:
    if plugin.name in children:
        raise AfbenchError(
            f"organisms are each other's parents: {' -> '.join((*children, plugin.name))}"
        )
    identity = _own_identity(plugin)
    parent = parent_of(plugin, catalog, default_parent)
    if parent is not None:
        above = (*children, plugin.name)
        identity["parent"] = _digest(parent, catalog, default_parent, above)
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _own_identity(plugin: Plugin[OrganismManifest]) -> dict[str, Any]:
    source = plugin.manifest.source
    if isinstance(source, PromptedSource):
        return {"type": source.type, "system_prompt": source.system_prompt}
    if isinstance(source, VariantSource):
        return {"type": source.type, "scale": source.scale, "bits": source.bits}
    if isinstance(source, HubSource):
        return source.model_dump(mode="json")
    read = {
        name: file_digest(path)
        for name, path in identity_files(source_folder(plugin)).items()
        if name not in source.digests
    }
    identity: dict[str, Any] = {"type": source.type, "files": read | source.digests}
    if isinstance(source, AdapterSource) and source.system_prompt:
        identity["system_prompt"] = source.system_prompt
    return identity
