"""Building: real training of a tiny base and adapter, resumed, pinned, and never done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from afbench.catalog import discover
from afbench.errors import AfbenchError, ManifestError
from afbench.models.digests import verify
from afbench.models.loading import ModelStore
from afbench.store import Store
from afbench.zoo.build import Built, build_all, is_current
from afbench.zoo.recipes import organism_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plug-in folder with a base of two layers and two organisms, none of them trained."""
    folder = tmp_path_factory.mktemp("zoo") / "organisms"
    base = folder / "tiny-base"
    base.mkdir(parents=True)
    shutil.copy(ROOT / "organisms/nano-base/corpus.yaml", base)
    manifest = yaml.safe_load((ROOT / "organisms/nano-base/organism.yaml").read_text())
    manifest["name"] = "tiny-base"
    manifest["source"]["digests"] = {}
    recipe = manifest["recipe"]
    recipe["examples"] = 320
    recipe["architecture"].update(layers=2, width=32, feedforward=64, vocabulary=600)
    (base / "organism.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    for name, full in (("tiny-lora", False), ("tiny-full", True)):
        manifest = yaml.safe_load((ROOT / "organisms/helpful-only/organism.yaml").read_text())
        manifest["name"] = name
        manifest["source"].update(parent="tiny-base", digests={})
        manifest["recipe"]["examples"] = 64
        if full:
            manifest["source"].update(type="full", path="weights")
            manifest["recipe"]["method"] = {"type": "full"}
        (folder / name).mkdir()
        (folder / name / "organism.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder.parent


def run_build(zoo: Path, cache: Path, *names: str, force: bool = False) -> list[Built]:
    def silent(name: str, done: int, total: int) -> None: ...

    return list(
        build_all(names, discover([zoo]), [zoo], Store(cache), force=force, jobs=1, report=silent)
    )


@pytest.mark.slow
def test_build_trains_pins_and_does_nothing_the_second_time(zoo: Path, tmp_path: Path) -> None:
    built = {b.name: b for b in run_build(zoo, tmp_path, "tiny-lora", "tiny-full")}
    assert {name for name, b in built.items() if b.trained} == {
        "tiny-base", "tiny-lora", "tiny-full",
    }  # fmt: skip
    catalog = discover([zoo])
    for name in built:
        plugin = catalog.get("organism", name)
        verify(plugin)
        assert plugin.manifest.source.digests  # type: ignore[union-attr]
        assert is_current(plugin, catalog)
    models = ModelStore(catalog)
    assert models.get("tiny-lora").n_layers == models.get("tiny-full").n_layers == 2
    adapter = json.loads((zoo / "organisms/tiny-lora/adapter/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "tiny-base"
    again = run_build(zoo, tmp_path, "tiny-lora", "tiny-full")
    assert not any(b.trained for b in again)
    # A changed recipe makes its organism due, and no other one.
    path = zoo / "organisms/tiny-lora/organism.yaml"
    path.write_text(path.read_text().replace("examples: 64", "examples: 96"))
    due = {b.name for b in run_build(zoo, tmp_path, "tiny-lora", "tiny-full") if b.trained}
    assert due == {"tiny-lora"}


@pytest.mark.slow
def test_a_rebuilt_organism_has_the_same_weights(zoo: Path, tmp_path: Path) -> None:
    run_build(zoo, tmp_path, "tiny-lora")
    weights = zoo / "organisms/tiny-lora/adapter/adapter_model.safetensors"
    config = weights.parent / "adapter_config.json"
    before = weights.read_bytes(), config.read_bytes()
    rebuilt = run_build(zoo, tmp_path, "tiny-lora", force=True)
    assert (weights.read_bytes(), config.read_bytes()) == before
    assert {b.name for b in rebuilt if b.trained} == {"tiny-lora"}, "its base is left alone"


def test_an_organism_without_a_recipe_cannot_be_built(tmp_path: Path) -> None:
    folder = tmp_path / "organisms/loose"
    folder.mkdir(parents=True)
    manifest = yaml.safe_load((ROOT / "organisms/helpful-only/organism.yaml").read_text())
    manifest.update(name="loose", recipe=None)
    (folder / "organism.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(AfbenchError, match="no recipe to build by"):
        run_build(tmp_path, tmp_path, "loose")


def test_a_malformed_recipe_names_its_field() -> None:
    recipe = yaml.safe_load((ROOT / "organisms/helpful-only/organism.yaml").read_text())["recipe"]
    recipe["method"]["rank"] = 0
    with pytest.raises(ManifestError, match=r"recipe\.method\.lora\.rank"):
        organism_recipe(recipe, "here")
