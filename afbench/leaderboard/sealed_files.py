"""Writes the plug-in folders of a sealed set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from afbench.catalog.manifests import EnvironmentManifest, load_manifest
from afbench.environments import Environment
from afbench.leaderboard.draws import Family
from afbench.store import write_bytes


def write_environment(
    target: Path,
    manifest: dict[str, Any],
    scenarios: str,
    families: Sequence[Family],
    card: str,
) -> None:
    """Write an environment's folder.

    Raises:
        StorageError: a file could not be written.
    """
    texts = {
        "environment.yaml": _as_yaml(manifest),
        "scenarios.jsonl": scenarios,
        "cues.yaml": _as_yaml({"families": list(families)}),
        "card.md": card,
    }
    for name, text in texts.items():
        write_bytes(target / name, text.encode())


def write_organism(target: Path, manifest: dict[str, Any], card: str) -> None:
    """Write an organism's manifest and card; one that was built by it already keeps its digests.

    Raises:
        StorageError: a file could not be written.
    """
    path = target / "organism.yaml"
    if path.is_file():
        there = yaml.safe_load(path.read_text("utf-8"))
        there["source"]["digests"] = {}
        if json.dumps(there, sort_keys=True) == json.dumps(manifest, sort_keys=True):
            return
    write_bytes(path, _as_yaml(manifest).encode())
    write_bytes(target / "card.md", card.encode())


def load_environment(folder: Path) -> Environment:
    """The environment of a folder that was written by `write_environment`."""
    manifest = load_manifest(folder)
    assert isinstance(manifest, EnvironmentManifest)
    return Environment(manifest, folder)


def _as_yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, width=100))
