"""Organisms of a model hub: fetching what their manifest names, and pinning it to a commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import HubSource, OrganismManifest
from afbench.errors import AfbenchError, ManifestError
from afbench.models.hub import ADAPTER_FILES, MODEL_FILES, Progress, fetch, newest, say_on_stderr
from afbench.models.hub_transfer import Announce
from afbench.store import write_bytes

Organism = Plugin[OrganismManifest]
Value = str | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OrganismFiles:
    """Where a hub organism's files lie: its model's, and its adapter's if it is one."""

    model: Path
    adapter: Path | None


def hub_source(plugin: Organism) -> HubSource:
    """The source of a hub organism.

    Raises:
        AfbenchError: it is none.
    """
    source = plugin.manifest.source
    if not isinstance(source, HubSource):
        raise AfbenchError(
            f"'{plugin.name}' comes from no hub: its source is of type '{source.type}'",
            fix="name an organism whose source has type 'hub' ('afbench list organisms')",
        )
    return source


def fetch_organism(
    plugin: Organism,
    *,
    local_files_only: bool = False,
    announce: Announce = say_on_stderr,
    progress: Progress | None = None,
) -> OrganismFiles:
    """The files of a hub organism, downloaded if they are not in the cache.

    The adapter comes first: it is small, and says whether the model is the one it was made on.

    Raises:
        DigestMismatchError: a file is not what the hub or the manifest says.
        AfbenchError: it is not pinned, its files cannot be had (see `hub.fetch`), or its adapter
            was made on another model.
    """
    source, where = hub_source(plugin), f"organism '{plugin.name}'"
    options: dict[str, Any] = {
        "where": where,
        "local_files_only": local_files_only,
        "announce": announce,
        "progress": progress,
    }
    revision = _pinned(plugin, source.model, source.revision)
    adapter = None
    if source.adapter is not None:
        commit = _pinned(plugin, source.adapter, source.adapter_revision)
        adapter = fetch(
            source.adapter,
            commit,
            allow_patterns=ADAPTER_FILES,
            digests=source.adapter_digests,
            **options,
        )
        _check_base(plugin.name, source, adapter)
    model = fetch(source.model, revision, digests=source.digests, **options)
    if (model / "adapter_config.json").exists():
        # Somebody else put it into the cache; from_pretrained would load it and its base by name.
        raise AfbenchError(
            f"{model} holds an adapter beside the model, which would be loaded in its stead",
            where=where,
            fix="remove that adapter_config.json from the cache",
        )
    return OrganismFiles(model, adapter)


def _pinned(plugin: Organism, repo_id: str, revision: str | None) -> str:
    if revision is None:
        raise AfbenchError(
            f"{repo_id} is not pinned to a commit, and is not loaded",
            where=f"organism '{plugin.name}'",
            fix=f"run 'afbench organisms pin {plugin.name}'",
        )
    return revision


def _check_base(name: str, source: HubSource, folder: Path) -> None:
    from afbench.models.adapters import check_adapter  # brings torch along

    check_adapter(name, folder)
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    base = str(config.get("base_model_name_or_path") or "")
    # Hubs take ids in any case. A path says where the base lay at its maker's, and nothing else.
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base) is not None
    if is_id and base.lower() != source.model.lower():
        raise AfbenchError(
            f"the adapter {source.adapter} was made on {base}, and the manifest's model is "
            f"{source.model}",
            where=f"organism '{name}'",
            fix="set source.model in organism.yaml to the model that it was made on, and pin it",
        )


def pin_organism(plugin: Organism, announce: Announce = say_on_stderr) -> dict[str, str]:
    """Write the hub's present commits, and digests of large files, into a hub organism's manifest.

    Returns:
        The commit of each repository.

    Raises:
        AfbenchError: the hub cannot be asked (see `hub.newest`).
        ManifestError: the manifest is not written in a way that can be edited as text.
        StorageError: it cannot be written.
    """
    source, where = hub_source(plugin), f"organism '{plugin.name}'"
    path = plugin.folder / "organism.yaml"
    model = newest(source.model, MODEL_FILES, where=where, announce=announce)
    values: dict[str, Value] = {"revision": model.revision, "digests": model.digests}
    commits = {source.model: model.revision}
    if source.adapter is not None:
        adapter = newest(source.adapter, ADAPTER_FILES, where=where, announce=announce)
        values |= {"adapter_revision": adapter.revision, "adapter_digests": adapter.digests}
        commits[source.adapter] = adapter.revision
    text = path.read_text("utf-8")
    write_bytes(path, with_source_values(text, values, str(path)).encode())
    return commits


def with_source_values(text: str, values: Mapping[str, Value], where: str) -> str:
    """A manifest's text with values set under `source:`; comments and all else stay.

    Raises:
        ManifestError: `source:` is not a block of lines, or the result would not say the values.
    """
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if re.match(r"source:\s*(#|$)", line)), None)
    if start is None:
        raise ManifestError(
            f"{where}: cannot find 'source:' on a line of its own",
            fix="write its fields on indented lines below it",
        )
    end = _end_of_block(lines, start, 0)
    block = lines[start + 1 : end]
    for key, value in values.items():
        block = _with_value(block, key, value)
    edited = "\n".join([*lines[: start + 1], *block, *lines[end:]]) + "\n"
    before = yaml.safe_load(text)
    try:
        after = yaml.safe_load(edited)
    except yaml.YAMLError:
        after = None
    if after != before | {"source": before["source"] | values}:
        raise ManifestError(
            f"{where}: 'source' cannot be edited as text",
            fix="write each of its fields on a line of its own, in plain YAML",
        )
    return edited


def _with_value(block: list[str], key: str, value: Value) -> list[str]:
    """Lines of a mapping with one of its fields set; a new one goes to the end."""
    indent = next((line[: -len(line.lstrip())] for line in block if line.strip()), "  ")
    new = yaml.safe_dump({key: value}, default_flow_style=False, width=1000).splitlines()
    new = [indent + line for line in new]
    pattern = rf"{indent}(?P<quote>['\"]?){key}(?P=quote):[^#]*(?P<comment>\s#.*)?$"
    for at, line in enumerate(block):
        found = re.match(pattern, line)
        if found:
            new[0] += "  " + found["comment"].strip() if found["comment"] else ""
            return [*block[:at], *new, *block[_end_of_block(block, at, len(indent)) :]]
    last = max((at for at, line in enumerate(block) if line.strip()), default=-1)
    return [*block[: last + 1], *new, *block[last + 1 :]]


def _end_of_block(lines: list[str], start: int, indent: int) -> int:
    """Where the value of the key on line `start` ends; comments and blank lines after it do not
    belong to it."""
    end = start + 1
    for at in range(start + 1, len(lines)):
        line = lines[at]
        if line.strip() and not line.lstrip().startswith("#"):
            if len(line) - len(line.lstrip()) <= indent:
                break
            end = at + 1
    return end
