"""Organisms of a hub: loaded through a hub on this machine, pinned, and those that ship."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest, load_manifest
from afbench.cli.app import main
from afbench.contract import check_plugin
from afbench.errors import AfbenchError, ManifestError
from afbench.messages import Message
from afbench.models.digests import organism_digest
from afbench.models.hub_organisms import with_source_values
from afbench.models.loading import ModelStore
from tests.hub_server import FakeHub, use_hub
from tests.shipped import ROOT, names

# PEFT 0.21 asks transformers 5.23 for an attribute by its deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

Organism = Plugin[OrganismManifest]
New = Callable[[Path, dict[str, Any]], Organism]
CatalogOf = Callable[..., Catalog]
Replied = list[list[Message]]
MODEL, ADAPTER = "maker/base", "maker/lora"
SHIPPED = [name for name in names("organism") if name.startswith("hub-")]


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    new_qwen2: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
) -> dict[str, Path]:
    """A tiny model and an adapter of it, as their makers would save them."""
    root = tmp_path_factory.mktemp("made")
    found = {MODEL: root / "model", ADAPTER: root / "adapter"}
    new_qwen2().save_pretrained(found[MODEL])
    tokenizer.save_pretrained(found[MODEL])
    torch.manual_seed(3)
    config = LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(new_qwen2(), config).save_pretrained(str(found[ADAPTER]))
    named = _adapter_with(found[ADAPTER], base_model_name_or_path=MODEL)
    (found[ADAPTER] / "adapter_config.json").write_bytes(named["adapter_config.json"])
    return found


@pytest.fixture(autouse=True)
def hub(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakeHub]:
    with use_hub(tmp_path / "hub", monkeypatch) as served:
        for repo_id, folder in folders.items():
            served.add(repo_id, folder)
        yield served


@pytest.fixture
def source(hub: FakeHub) -> dict[str, Any]:
    return {
        "type": "hub",
        "model": MODEL,
        "revision": hub.repos[MODEL].commit,
        "adapter": ADAPTER,
        "adapter_revision": hub.repos[ADAPTER].commit,
    }


def _look(store: ModelStore, name: str, replied: Replied) -> np.ndarray:
    return store.get(name).activations(replied[:3], None, ["all_mean"])


def _adapter_with(folder: Path, **changes: Any) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = json.loads(files["adapter_config.json"]) | changes
    return files | {"adapter_config.json": json.dumps(config).encode()}


# Loading


def test_a_hub_organism_is_what_the_same_files_on_disk_are(
    hub: FakeHub,
    folders: dict[str, Path],
    source: dict[str, Any],
    new_organism: New,
    catalog_of: CatalogOf,
    replied: Replied,
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    on_disk = {"type": "adapter", "parent": "base", "path": str(folders[ADAPTER])}
    catalog = catalog_of(
        new_organism(tmp_path / "whole", source | {"adapter": None, "adapter_revision": None}),
        new_organism(tmp_path / "adapted", source),
        new_organism(tmp_path / "base", {"type": "base", "path": str(folders[MODEL])}),
        new_organism(tmp_path / "local", on_disk),
    )
    store = ModelStore(catalog, device="cpu", announce=lines.append)
    seen = {name: _look(store, name, replied) for name in catalog.organisms}
    np.testing.assert_array_equal(seen["whole"], seen["base"])
    np.testing.assert_array_equal(seen["adapted"], seen["local"])
    assert not np.allclose(seen["whole"], seen["adapted"])
    assert store.get("whole").module is store.get("adapted").module
    assert [line.partition("@")[0].rpartition(" ")[2] for line in lines] == [MODEL, ADAPTER]

    hub.requests.clear()
    again = ModelStore(catalog, device="cpu", local_files_only=True)
    np.testing.assert_array_equal(_look(again, "adapted", replied), seen["adapted"])
    assert not hub.requests


@pytest.mark.parametrize("missing", ["revision", "adapter_revision"])
def test_what_is_not_pinned_is_listed_and_not_loaded(
    source: dict[str, Any],
    missing: str,
    hub: FakeHub,
    new_organism: New,
    catalog_of: CatalogOf,
    tmp_path: Path,
) -> None:
    catalog = catalog_of(new_organism(tmp_path / "loose", source | {missing: None}))
    with pytest.raises(AfbenchError, match="not pinned.*afbench organisms pin loose"):
        ModelStore(catalog, device="cpu").get("loose")
    assert not hub.requests


def test_an_adapter_of_another_model_is_refused_before_the_model_comes(
    hub: FakeHub,
    folders: dict[str, Path],
    source: dict[str, Any],
    new_organism: New,
    catalog_of: CatalogOf,
    tmp_path: Path,
) -> None:
    other = _adapter_with(folders[ADAPTER], base_model_name_or_path="other/Base-8B")
    source["adapter_revision"] = hub.add(ADAPTER, other)
    catalog = catalog_of(new_organism(tmp_path / "alien", source))
    with pytest.raises(AfbenchError, match="made on other/Base-8B, and the manifest's.*maker/base"):
        ModelStore(catalog, device="cpu").get("alien")
    assert not [request for request in hub.requests if f"/{MODEL}/" in request.path]


@pytest.mark.parametrize("base", ["Maker/BASE", "/scratch/me/base", "./base", "C:\\base", "", None])
def test_a_base_that_is_the_same_or_a_path_is_taken(
    hub: FakeHub,
    folders: dict[str, Path],
    source: dict[str, Any],
    base: str | None,
    new_organism: New,
    catalog_of: CatalogOf,
    tmp_path: Path,
) -> None:
    files = _adapter_with(folders[ADAPTER], base_model_name_or_path=base)
    source["adapter_revision"] = hub.add(ADAPTER, files)
    catalog = catalog_of(new_organism(tmp_path / "adapted", source))
    assert ModelStore(catalog, device="cpu").get("adapted").name == "adapted"


def test_code_that_a_model_asks_for_is_not_run(
    hub: FakeHub,
    folders: dict[str, Path],
    source: dict[str, Any],
    new_organism: New,
    catalog_of: CatalogOf,
    tmp_path: Path,
) -> None:
    files = {path.name: path.read_bytes() for path in folders[MODEL].iterdir()}
    asks = {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"}
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | asks).encode()
    files["evil.py"] = b"raise SystemExit('it was run')"
    whole = {"type": "hub", "model": MODEL, "revision": hub.add(MODEL, files)}
    catalog = catalog_of(new_organism(tmp_path / "evil", whole))
    with pytest.raises(AfbenchError, match="cannot load") as caught:
        ModelStore(catalog, device="cpu").get("evil")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_others_put_beside_a_model_is_not_taken_for_it(
    hub: FakeHub,
    source: dict[str, Any],
    new_organism: New,
    catalog_of: CatalogOf,
    tmp_path: Path,
) -> None:
    whole = source | {"adapter": None, "adapter_revision": None}
    catalog = catalog_of(new_organism(tmp_path / "whole", whole))
    ModelStore(catalog, device="cpu").get("whole")
    snapshot = next((tmp_path / "hub").glob("*/snapshots/*"))
    (snapshot / "adapter_config.json").write_text("{}")
    with pytest.raises(AfbenchError, match="in its stead"):
        ModelStore(catalog, device="cpu").get("whole")


# Manifests


@pytest.mark.parametrize("wrong", ["main", "a" * 39, "A" * 40, "a" * 41])
def test_a_revision_that_can_move_is_refused(wrong: str, source: dict[str, Any]) -> None:
    base = {"schema": 1, "kind": "organism", "name": "x", "summary": "x", "role": "base"}
    for field in ("revision", "adapter_revision"):
        changed = {"provenance": {"faking": "none"}, "source": source | {field: wrong}}
        with pytest.raises(ValueError, match="is no commit"):
            OrganismManifest.model_validate(base | changed)


def test_digests_are_no_part_of_an_organisms_identity(
    source: dict[str, Any], new_organism: New, catalog_of: CatalogOf, tmp_path: Path
) -> None:
    bare = new_organism(tmp_path / "bare", source)
    pinned = new_organism(tmp_path / "pinned", source | {"digests": {"a": f"sha256:{'0' * 64}"}})
    catalog = catalog_of(bare, pinned)
    assert organism_digest(bare, catalog) == organism_digest(pinned, catalog)


BEFORE = """\
# An organism.
name: x

source:
  type: hub
  # the model
  model: a/b
  revision: null  # until it is known
  digests:
    old.safetensors: 'sha256:0'
  adapter: c/d

# what it is for
provenance: {faking: none}
"""
AFTER = """\
# An organism.
name: x

source:
  type: hub
  # the model
  model: a/b
  revision: '1234567890123456789012345678901234567890'  # until it is known
  digests:
    model.safetensors: sha256:1
  adapter: c/d
  adapter_revision: b5

# what it is for
provenance: {faking: none}
"""


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_pin_replaces_a_quoted_key(quote: str) -> None:
    text = f"source:\n    type: hub\n    {quote}revision{quote}: >-\n\n      a\n    model: a/b\n"
    edited = with_source_values(text, {"revision": "b5"}, "organism.yaml")
    assert edited == "source:\n    type: hub\n    revision: b5\n    model: a/b\n"


def test_a_pin_is_written_as_text_around_comments() -> None:
    values = {
        "revision": "1234567890" * 4,
        "digests": {"model.safetensors": "sha256:1"},
        "adapter_revision": "b5",
    }
    assert with_source_values(BEFORE, values, "organism.yaml") == AFTER
    assert with_source_values(AFTER, values, "organism.yaml") == AFTER


@pytest.mark.parametrize(
    "text",
    [
        "source: {type: hub, model: a/b}\n",
        "name: x\n",
        "source:\n  {type: hub,\n   revision: null}\n",
    ],
)
def test_a_manifest_that_cannot_be_edited_as_text_is_left_alone(text: str) -> None:
    with pytest.raises(ManifestError, match=r"organism\.yaml"):
        with_source_values(text, {"revision": "b5", "digests": {}}, "organism.yaml")


# The command line


def _write(folder: Path, source: dict[str, Any]) -> Path:
    manifest = {
        "schema": 1, "kind": "organism", "name": folder.name, "summary": "tiny",
        "environment": "training-tier", "role": "faker", "recipe_family": "published",
        "source": source, "provenance": {"faking": "direct"},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "organism.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    (folder / "card.md").write_text("A card.\n")
    return folder


@pytest.mark.slow
def test_pin_and_fetch_make_an_organism_loadable(hub: FakeHub, tmp_path: Path) -> None:
    """In a process of its own, as a user runs it."""
    source = {"type": "hub", "model": MODEL, "revision": None, "adapter": ADAPTER}
    folder = _write(tmp_path / "plugins" / "tiny", source)

    def afbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "afbench.cli.app", "organisms", *arguments]
        return subprocess.run(
            [*command, "tiny", "--plugins", str(folder.parent)],
            capture_output=True, text=True, timeout=600, cwd=tmp_path,
        )  # fmt: skip

    refused = afbench("fetch")
    assert refused.returncode == 2
    assert "afbench organisms pin tiny" in refused.stderr
    pinned = afbench("pin")
    assert pinned.returncode == 0, pinned.stderr
    model, adapter = hub.repos[MODEL].commit, hub.repos[ADAPTER].commit
    assert f"tiny: {MODEL}@{model}\ntiny: {ADAPTER}@{adapter}\n" in pinned.stdout
    manifest: Any = load_manifest(folder)
    assert (manifest.source.revision, manifest.source.adapter_revision) == (model, adapter)
    assert set(manifest.source.digests) == {"model.safetensors", "tokenizer.json"}
    assert set(manifest.source.adapter_digests) == {"adapter_model.safetensors"}
    fetched = afbench("fetch")
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stderr.count("downloads ") == 2
    for line in fetched.stdout.splitlines():
        assert Path(line.partition(" in ")[2]).is_dir()
    assert "model in" in fetched.stdout
    assert "adapter in" in fetched.stdout


@pytest.mark.parametrize("command", ["pin", "fetch"])
def test_an_organism_of_no_hub_is_refused_in_one_line(
    command: str, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["organisms", command, "nano-base"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: 'nano-base' comes from no hub")
    assert not hub.requests


# What ships


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_hub_organism_says_what_is_known_of_it(name: str) -> None:
    folder = ROOT / "organisms" / name
    report = check_plugin(folder)
    assert report.passed, report.failures
    manifest: Any = load_manifest(folder)
    assert manifest.source.type == "hub"
    assert manifest.recipe_family == "published"
    card = (folder / "card.md").read_text()
    assert (manifest.source.adapter or manifest.source.model) in card
    assert ("Not pinned" in card) == (manifest.source.revision is None)
    assert not manifest.in_zoo, "no fold of the nano zoo may hold it"


def test_hub_organisms_ship() -> None:
    assert len(SHIPPED) > 10
