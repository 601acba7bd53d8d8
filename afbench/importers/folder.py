"""Writing an imported environment's folder: whole, checked by loading it, or not at all."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from afbench.catalog.fields import NAME_PATTERN
from afbench.catalog.manifests import EnvironmentManifest, load_manifest
from afbench.catalog.yaml_files import display
from afbench.environments import Environment
from afbench.errors import AfbenchError, StorageError
from afbench.store import write_bytes, write_json

REPORT: Final = "import.json"
_MAX_NAME: Final = 80


def check_target(into: Path, name: str, *, force: bool = False) -> Path:
    """The folder that an import may write.

    Raises:
        AfbenchError: the name is not valid, or something stands there that `force` may not
            replace: it replaces what an import wrote, and never a link or other work.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > _MAX_NAME:
        raise AfbenchError(
            f"'{name}' is not a name for a plug-in",
            fix="use lower-case letters, digits and hyphens, beginning with a letter or digit",
        )
    folder = into / name
    if not folder.exists() and not folder.is_symlink():
        return folder
    if not force:
        raise AfbenchError(
            f"{display(folder)} exists already", fix="choose another --name, or add --force"
        )
    is_import = folder.is_dir() and ((folder / REPORT).is_file() or not any(folder.iterdir()))
    if folder.is_symlink() or not is_import:
        raise AfbenchError(
            f"{display(folder)} is not the work of an import, and --force does not replace it",
            fix="choose another --name, or remove it first",
        )
    return folder


def write_environment(
    folder: Path,
    manifest: Mapping[str, Any],
    scenarios: Iterable[Mapping[str, Any]],
    cues: Mapping[str, Any],
    card: str,
    report: Mapping[str, Any],
    *,
    force: bool = False,
) -> None:
    """Write the folder beside its place, load it, and move it there.

    Args:
        folder: as `check_target` gave it.
        manifest: environment.yaml, which names scenarios.jsonl and cues.yaml.
        scenarios: the lines of scenarios.jsonl after the one with the canary.
        cues: cues.yaml.
        card: card.md.
        report: import.json.
        force: what stands there now is replaced.

    Raises:
        ManifestError: the environment does not load.
        StorageError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
            made = Path(beside) / folder.name  # the name must be the manifest's already
            lines = [{"canary": manifest["canary"]}, *scenarios]
            text = "".join(f"{json.dumps(line)}\n" for line in lines)
            write_bytes(made / manifest["scenarios"], text.encode())
            write_bytes(made / manifest["cues"], _yaml(cues))
            write_bytes(made / "environment.yaml", _yaml(manifest))
            write_bytes(made / "card.md", card.encode())
            write_json(made / REPORT, report)
            _load(made)
            _move(made, folder, Path(beside) / "replaced", force=force)
    except OSError as error:
        raise StorageError(f"cannot write {display(folder)}: {error.strerror or error}") from None


def _yaml(value: Mapping[str, Any]) -> bytes:
    text = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=10**6)
    return text.encode()


def _load(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert isinstance(manifest, EnvironmentManifest)
    Environment(manifest, folder)


def _move(made: Path, folder: Path, replaced: Path, *, force: bool) -> None:
    if force and folder.exists():
        folder.rename(replaced)
    try:
        made.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise
