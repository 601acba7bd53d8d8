"""A model that the user names for one run: a hub id, or a folder of a transformers model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import BaseSource, HubSource, OrganismManifest
from afbench.errors import AfbenchError, DuplicateNameError
from afbench.models.digests import organism_digest
from afbench.models.hub import newest, say_on_stderr
from afbench.models.hub_transfer import Announce

NAME: Final = "user-model"
_WHERE: Final = "--model"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class UserModel:
    """A model of the user's, as an organism of role `base`.

    Attributes:
        label: how a record calls it: the hub id, or the folder's name.
        identity: `id@commit`, or the digest of the folder's weights, config and tokenizer.
    """

    plugin: Plugin[OrganismManifest]
    label: str
    identity: str

    def added_to(self, catalog: Catalog) -> Catalog:
        """A catalog that holds the model too.

        Raises:
            DuplicateNameError: an organism has its name.
        """
        name = self.plugin.name
        if name in catalog.organisms:
            raise DuplicateNameError(
                f"an organism is named '{name}', as the model of {_WHERE} is in a run",
                where=str(catalog.organisms[name].folder),
                fix="rename the organism",
            )
        return replace(catalog, organisms={**catalog.organisms, name: self.plugin})


def user_model(
    model: str, revision: str | None = None, *, announce: Announce = say_on_stderr
) -> UserModel:
    """The model of that id or folder; nothing of it is loaded, and of a hub's nothing fetched.

    Args:
        model: a folder that holds a whole model; else a hub's id, `owner/name`.
        revision: the commit of a hub's model, 40 hexadecimal digits; the newest, if it is None.
        announce: told of long waits for the hub.

    Raises:
        AfbenchError: there is no such folder or it holds no model; or the hub cannot say what its
            newest commit is (see `hub.newest`).
    """
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        if revision is not None:
            raise _error(
                f"{model} is a folder, which has no revision",
                "leave out --revision, or give the id of a hub's model",
            )
        return _local(folder.resolve())
    if not _HUB_ID.fullmatch(model):
        raise _error(
            f"there is no folder '{model}', and it is no id of a hub's model",
            "give a folder with a transformers model, or an id as owner/name",
        )
    return _of_hub(model, revision, announce)


def _local(folder: Path) -> UserModel:
    present = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in present:
        raise _error(
            f"{folder} holds an adapter, which would be put on the model in place of a prompt",
            "give the folder of the whole model that it was made on, or merge it into one",
        )
    if "config.json" not in present:
        raise _error(
            f"{folder} holds no model: it has no config.json",
            "give a folder that save_pretrained or 'hf download' wrote",
        )
    if not any(name.endswith(".safetensors") for name in present):
        raise _error(
            f"{folder} holds no weights in safetensors",
            "save the model again with save_pretrained: a pickle runs code when it is read",
        )
    _check_config(folder)
    plugin = as_organism(BaseSource(type="base", path="."), folder)
    return UserModel(plugin, folder.name, organism_digest(plugin, Catalog()))


def _check_config(folder: Path) -> None:
    from transformers import AutoConfig  # slow to import

    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _error(
            f"{folder} holds no model that transformers can read: {first}",
            "check its config.json; a model that brings its own code is not loaded",
        ) from None


def _of_hub(repo_id: str, revision: str | None, announce: Announce) -> UserModel:
    if revision is None:
        revision = newest(repo_id, where=_WHERE, announce=announce).revision
    elif not _COMMIT.fullmatch(revision):
        raise _error(
            f"'{revision}' is no commit",
            "give all 40 hexadecimal digits, or leave out --revision to take the newest",
        )
    # The commit pins it: digests beside it would make every run read all weights once more.
    source = HubSource(type="hub", model=repo_id, revision=revision)
    return UserModel(as_organism(source, Path()), repo_id, f"{repo_id}@{source.revision}")


def as_organism(source: BaseSource | HubSource, folder: Path) -> Plugin[OrganismManifest]:
    """The organism that prompted ones have as their parent."""
    manifest = OrganismManifest.model_validate(
        {
            "schema": 1,
            "kind": "organism",
            "name": NAME,
            "summary": "The model that the command line names.",
            "role": "base",
            "source": source,
            "provenance": {"faking": "none"},
        }
    )
    return Plugin(NAME, "organism", folder, manifest)


def _error(what: str, fix: str) -> AfbenchError:
    return AfbenchError(what, where=_WHERE, fix=fix)
