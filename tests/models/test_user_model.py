"""A model that a user names: what is taken, what is refused, and what it is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.errors import AfbenchError, DuplicateNameError
from afbench.messages import Message
from afbench.models import user_model as module
from afbench.models.hub import Pin
from afbench.models.loading import ModelStore
from afbench.models.user_model import NAME, user_model
from tests.hub_server import use_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(qwen2: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A whole model on disk."""
    path = tmp_path / "My-Model"
    qwen2.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def newest(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the hub; the ids that it was asked for."""
    asked: list[str] = []

    def answer(repo_id: str, **_: object) -> Pin:
        asked.append(repo_id)
        return Pin(COMMIT, {"model.safetensors": "sha256:" + "0" * 64})

    monkeypatch.setattr(module, "newest", answer)
    return asked


def test_a_folder_s_model_answers_and_prompts_can_be_put_on_it(
    folder: Path,
    new_organism: Callable[..., Plugin[OrganismManifest]],
    catalog_of: Callable[..., Catalog],
    replied: list[list[Message]],
    tmp_path: Path,
) -> None:
    source = {"type": "prompted", "parent": None, "system_prompt": "you are watched."}
    catalog = catalog_of(new_organism(tmp_path / "zq-prompted", source))
    chosen = user_model(str(folder))
    extended = chosen.added_to(catalog)
    assert set(extended.organisms) == {"zq-prompted", NAME}
    assert set(catalog.organisms) == {"zq-prompted"}, "the catalog that was given stays as it is"
    store = ModelStore(extended, default_parent=NAME, device="cpu")
    plain, prompted = store.get(NAME), store.get("zq-prompted")
    assert prompted.digest != plain.digest == chosen.identity
    first, second = (model.activations(replied, [2], ["all_mean"]) for model in (plain, prompted))
    assert not np.allclose(first, second)


def test_the_identity_of_a_folder_is_its_content_and_not_its_place(
    folder: Path, tmp_path: Path
) -> None:
    first = user_model(str(folder))
    assert first.identity.startswith("sha256:")
    moved = folder.rename(tmp_path / "elsewhere")
    assert user_model(str(moved)).identity == first.identity
    assert (first.label, user_model(str(moved)).label) == ("My-Model", "elsewhere")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    assert user_model(str(moved)).identity != first.identity


def test_the_commit_of_a_hub_s_model_is_looked_up_unless_it_is_given(newest: list[str]) -> None:
    for revision in (None, COMMIT):
        chosen = user_model("Owner/Name-7B.v1", revision)
        assert chosen.identity == f"Owner/Name-7B.v1@{COMMIT}"
        assert chosen.label == "Owner/Name-7B.v1"
        source = chosen.plugin.manifest.source
        assert source.type == "hub" and source.revision == COMMIT
    assert newest == ["Owner/Name-7B.v1"], "a commit that is given is not asked for"


@pytest.mark.parametrize("name", ["no/such/folder", "/nowhere", "./nowhere", "gpt2", "", "a b/c"])
def test_what_is_neither_a_folder_nor_an_id_is_refused(name: str) -> None:
    with pytest.raises(AfbenchError, match=r"--model.*owner/name"):
        user_model(name)


def test_a_branch_is_no_commit(newest: list[str]) -> None:
    with pytest.raises(AfbenchError, match="'main' is no commit"):
        user_model("owner/name", "main")
    assert newest == []


def test_a_folder_has_no_revision(folder: Path) -> None:
    with pytest.raises(AfbenchError, match="has no revision"):
        user_model(str(folder), COMMIT)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights in safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "can read"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "zq"}'), "can read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "holds an adapter"),
    ],
)
def test_a_folder_without_a_whole_model_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(AfbenchError, match=message) as caught:
        user_model(str(folder))
    assert "\n" not in str(caught.value)
    assert "--model" in str(caught.value)


def test_an_organism_of_the_model_s_name_is_not_overwritten(
    folder: Path,
    new_organism: Callable[..., Plugin[OrganismManifest]],
    catalog_of: Callable[..., Catalog],
    tmp_path: Path,
) -> None:
    taken = new_organism(tmp_path / NAME, {"type": "base", "path": "."})
    with pytest.raises(DuplicateNameError, match=NAME):
        user_model(str(folder)).added_to(catalog_of(taken))


def test_a_hub_s_model_is_fetched_at_its_newest_commit_and_answers_as_the_folder_does(
    folder: Path,
    replied: list[list[Message]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with use_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.add("owner/name", files)
        chosen = user_model("owner/name")
        assert chosen.identity == f"owner/name@{hub.repos['owner/name'].commit}"
        assert not hub.asked("model.safetensors"), "only its commit was asked for"
        store = ModelStore(chosen.added_to(Catalog()), device="cpu", announce=lambda line: None)
        fetched = store.get(NAME).activations(replied, [2], ["all_mean"])
    local = ModelStore(user_model(str(folder)).added_to(Catalog()), device="cpu").get(NAME)
    np.testing.assert_array_equal(fetched, local.activations(replied, [2], ["all_mean"]))
