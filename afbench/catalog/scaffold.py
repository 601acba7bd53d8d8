"""Writing a new plug-in's folder: complete, working, and with a test that passes as written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from afbench.catalog.fields import NAME_PATTERN
from afbench.catalog.manifests import Kind
from afbench.catalog.yaml_files import display
from afbench.errors import AfbenchError, StorageError

_SUFFIX = ".template"  # so that no tool takes a template for the code it will become
_MAX_NAME = 80


def scaffold(kind: Kind, name: str, into: Path, *, environment: str = "my-environment") -> Path:
    """Write `into / name`: a manifest, the code or data of its kind, card.md and a test.

    Args:
        kind: the kind of plug-in.
        name: lower-case letters, digits and hyphens; becomes the folder's name.
        into: the folder to write in; made when it does not exist.
        environment: the home environment that a new organism's manifest names.

    Returns:
        The new folder.

    Raises:
        AfbenchError: the name is not valid, or something of that name is there already.
        StorageError: the folder cannot be written.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > _MAX_NAME:
        raise AfbenchError(
            f"'{name}' is not a name for a plug-in",
            fix="use lower-case letters, digits and hyphens, beginning with a letter or digit",
        )
    folder = into / name
    if folder.exists() or folder.is_symlink():
        raise AfbenchError(
            f"{display(folder)} exists already", fix="choose another name, or remove it first"
        )
    words = {
        "name": name,
        "class_name": _class_name(kind, name),
        "module_name": name.replace("-", "_"),
        "environment": environment,
    }
    try:
        folder.mkdir(parents=True)
        for relative, text in _render(kind, words):
            (folder / relative).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(f"cannot write {display(folder)}: {error.strerror or error}") from None
    return folder


def _render(kind: Kind, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    templates: Traversable = files("afbench.catalog") / "templates" / kind
    for template in sorted(templates.iterdir(), key=lambda entry: entry.name):
        if template.name.endswith(_SUFFIX):
            file_name = Template(template.name.removesuffix(_SUFFIX)).substitute(words)
            yield file_name, Template(template.read_text("utf-8")).substitute(words)


def _class_name(kind: Kind, name: str) -> str:
    words = "".join(word.capitalize() for word in name.split("-"))
    return words if words[0].isalpha() else kind.capitalize() + words
