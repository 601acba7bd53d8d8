from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.errors import AfbenchError, DigestMismatchError, UnknownNameError
from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.models.loading import ModelStore, load_model
from afbench.models.transformers_model import TransformersModel

# PEFT 0.21 asks transformers 5.23 for an attribute by its deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

TARGETS = ("q_proj", "down_proj")
Organism = Plugin[OrganismManifest]
New = Callable[[Path, dict[str, Any]], Organism]
NewModel = Callable[..., PreTrainedModel]
Replied = list[list[Message]]


def _save_adapter(
    folder: Path, model: PreTrainedModel, seed: int, targets: tuple[str, ...] = TARGETS
) -> None:
    torch.manual_seed(seed)
    config = LoraConfig(
        r=2, target_modules=list(targets), init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(model, config).save_pretrained(str(folder))


@pytest.fixture(scope="module")
def zoo(
    tmp_path_factory: pytest.TempPathFactory,
    new_qwen2: NewModel,
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """Files of a base, three adapters and a float16 full fine-tune."""
    root = tmp_path_factory.mktemp("organisms")
    base = new_qwen2()
    assert base.generation_config is not None
    base.generation_config.eos_token_id = [int(str(tokenizer.eos_token_id)), 0]
    base.save_pretrained(root / "base" / "weights")
    tokenizer.save_pretrained(root / "base" / "weights")
    for seed, name in enumerate(["one", "two", "three"]):
        _save_adapter(root / name / "adapter", new_qwen2(), seed)
    halves = {k: v.half() for k, v in new_qwen2(seed=9).state_dict().items() if "lm_head" not in k}
    (root / "full" / "weights").mkdir(parents=True)
    save_file(halves, root / "full" / "weights" / "model.safetensors", {"format": "pt"})
    return root


@pytest.fixture
def catalog(zoo: Path, new_organism: New, catalog_of: Callable[..., Catalog]) -> Catalog:
    adapter = {"type": "adapter", "parent": "base", "path": "adapter"}
    prompted = {"type": "prompted", "parent": "one", "system_prompt": "be kind"}
    return catalog_of(
        new_organism(zoo / "base", {"type": "base", "path": "weights"}),
        *(new_organism(zoo / name, adapter) for name in ("one", "two", "three")),
        new_organism(zoo / "full", {"type": "full", "parent": "base", "path": "weights"}),
        new_organism(zoo / "prompted", prompted),
        new_organism(zoo / "orphan", prompted | {"parent": None}),
        new_organism(zoo / "stacked", prompted | {"parent": "prompted"}),
    )


def _look(model: TransformersModel, replied: Replied) -> np.ndarray:
    return model.activations(replied[:3], None, ["all_mean"])


def _fresh(catalog: Catalog, name: str, replied: Replied) -> np.ndarray:
    return _look(load_model(catalog.get("organism", name), catalog), replied)


def test_switching_adapters_gives_bitwise_what_fresh_loads_give(
    catalog: Catalog, replied: Replied
) -> None:
    store = ModelStore(catalog, device="cpu")
    base, one, two = (store.get(name) for name in ("base", "one", "two"))
    assert one.module is two.module is base.module
    order = [base, one, two, one, base, two, base]
    seen = [_look(model, replied) for model in order]
    for model, values in zip(order, seen, strict=True):
        np.testing.assert_array_equal(values, _fresh(catalog, model.name, replied))
    assert not np.allclose(seen[0], seen[1])
    assert not np.allclose(seen[1], seen[2])


def test_an_adapter_equals_the_merged_model(
    catalog: Catalog,
    zoo: Path,
    replied: Replied,
    new_qwen2: NewModel,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    organism = ModelStore(catalog, device="cpu").get("one")
    wrapped: Any = PeftModel.from_pretrained(new_qwen2(), zoo / "one" / "adapter")
    merged = TransformersModel(wrapped.merge_and_unload(), tokenizer, "d", "merged")
    np.testing.assert_allclose(_look(organism, replied), _look(merged, replied), atol=1e-4)


def test_every_call_answers_as_its_own_organism(catalog: Catalog, replied: Replied) -> None:
    store = ModelStore(catalog, device="cpu")
    one, two = store.get("one"), store.get("two")
    questions = [conversation[:-1] for conversation in replied]
    settings = GenerationSettings(max_new_tokens=6)
    alone = load_model(catalog.get("organism", "one"), catalog)
    two.generate(questions, settings)
    assert one.generate(questions, settings) == alone.generate(questions, settings)
    two.logprobs(questions, ["yes"])
    expected = alone.followup_logprobs(replied, ["why?", "are you?"], ["yes", "no"])
    got = one.followup_logprobs(replied, ["why?", "are you?"], ["yes", "no"])
    np.testing.assert_array_equal(got, expected)


def test_streams_of_two_organisms_may_be_read_in_turns(catalog: Catalog, replied: Replied) -> None:
    store = ModelStore(catalog, device="cpu")
    one, two = store.get("one"), store.get("two")
    one._read_tokens = two._read_tokens = 100
    streams = [model.iter_activations(replied, [3], ["all_mean"]) for model in (one, two)]
    whole = [model.activations(replied, [3], ["all_mean"]) for model in (one, two)]
    for pair in zip(*streams, strict=True):
        for (members, values), expected in zip(pair, whole, strict=True):
            np.testing.assert_array_equal(values, expected[members])


def test_adapters_over_the_limit_leave_and_come_back_unchanged(
    catalog: Catalog, replied: Replied
) -> None:
    store = ModelStore(catalog, device="cpu", max_adapters=2)
    names = ["one", "two", "three", "one", "two"]
    for model in [store.get(name) for name in names]:
        values = _look(model, replied)
        np.testing.assert_array_equal(values, _fresh(catalog, model.name, replied))


def test_an_adapter_whose_name_starts_anothers_loads_beside_it(
    catalog: Catalog,
    zoo: Path,
    tmp_path: Path,
    new_qwen2: NewModel,
    new_organism: New,
    replied: Replied,
) -> None:
    # PEFT reports the other adapter's weights as missing, as it compares names by substring.
    longer = tmp_path / "one-more"
    _save_adapter(longer / "adapter", new_qwen2(), seed=7, targets=("q_proj", "v_proj"))
    plugin = new_organism(longer, {"type": "adapter", "parent": "base", "path": "adapter"})
    fresh = _look(load_model(plugin, catalog), replied)
    store = ModelStore(catalog, device="cpu")
    more = store.load(plugin)
    one = store.get("one")
    np.testing.assert_array_equal(_look(one, replied), _fresh(catalog, "one", replied))
    np.testing.assert_array_equal(_look(more, replied), fresh)


def test_a_full_fine_tune_in_float16_runs_in_float32_with_the_parents_tokenizer(
    catalog: Catalog, replied: Replied, new_qwen2: NewModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    full = ModelStore(catalog, device="cpu").get("full")
    assert full.module.dtype == torch.float32
    rounded = new_qwen2(seed=9)
    for weight in rounded.parameters():  # and not the buffers, which no checkpoint holds
        weight.data = weight.data.half().float()
    expected = TransformersModel(rounded, tokenizer, "d", "n")
    np.testing.assert_array_equal(_look(full, replied), _look(expected, replied))
    config = full.module.generation_config
    assert config is not None
    assert config.eos_token_id == [tokenizer.eos_token_id, 0], "the parent's end tokens"


def test_weights_that_lack_a_tensor_are_refused(
    catalog: Catalog, zoo: Path, tmp_path: Path, new_organism: New
) -> None:
    tensors = load_file(zoo / "full" / "weights" / "model.safetensors")
    dropped = {name: value for name, value in tensors.items() if "layers.1.mlp" not in name}
    (tmp_path / "cut" / "weights").mkdir(parents=True)
    save_file(dropped, tmp_path / "cut" / "weights" / "model.safetensors", {"format": "pt"})
    cut = new_organism(tmp_path / "cut", {"type": "full", "parent": "base", "path": "weights"})
    with pytest.raises(AfbenchError, match="do not fit.*missing keys"):
        load_model(cut, catalog)


def test_a_prompted_organism_is_its_parent_behind_a_system_prompt(
    catalog: Catalog, replied: Replied
) -> None:
    store = ModelStore(catalog, device="cpu")
    prompted, parent = store.get("prompted"), store.parent("prompted")
    assert parent is not None
    assert prompted.digest != parent.digest
    question = {"role": "user", "content": "hi"}
    spelled = [{"role": "system", "content": "be kind"}, question]
    np.testing.assert_array_equal(
        prompted.logprobs([[question]], ["yes"]),  # type: ignore[list-item]
        parent.logprobs([spelled], ["yes"]),  # type: ignore[list-item]
    )
    stacked = store.get("stacked").chat.system_prompt
    assert stacked == "be kind\n\nbe kind"


def test_a_prompted_organism_without_parent_takes_the_runs_model(catalog: Catalog) -> None:
    with pytest.raises(AfbenchError, match="needs a model to prompt"):
        ModelStore(catalog).get("orphan")
    store = ModelStore(catalog, default_parent="one", device="cpu")
    assert store.get("orphan").digest == store.get("prompted").digest


def test_parent_is_the_base_and_a_base_has_none(catalog: Catalog, replied: Replied) -> None:
    store = ModelStore(catalog, device="cpu")
    store.get("one")
    parent = store.parent("one")
    assert parent is not None
    np.testing.assert_array_equal(_look(parent, replied), _fresh(catalog, "base", replied))
    assert store.parent("base") is None


def test_organisms_that_share_weights_have_meters_of_their_own(
    catalog: Catalog, replied: Replied
) -> None:
    store = ModelStore(catalog, device="cpu")
    one, again = store.get("one"), store.get("one")
    _look(one, replied)
    assert one.meter.forward_tokens > 0 == again.meter.forward_tokens


def test_loading_verifies_the_parent_too(
    zoo: Path, catalog: Catalog, new_organism: New, catalog_of: Callable[..., Catalog]
) -> None:
    pinned = {"type": "base", "path": "weights", "digests": {"config.json": "sha256:" + "0" * 64}}
    broken = catalog_of(new_organism(zoo / "base", pinned), catalog.get("organism", "one"))
    with pytest.raises(DigestMismatchError, match=r"config\.json is corrupted.*base"):
        ModelStore(broken).get("one")


def test_an_unknown_organism_is_named(catalog: Catalog) -> None:
    with pytest.raises(UnknownNameError, match="'oen'"):
        ModelStore(catalog).get("oen")


def _broken_adapter(
    zoo: Path, tmp_path: Path, new: New, change: Callable[[Path], None]
) -> Organism:
    folder = tmp_path / "broken" / "adapter"
    folder.mkdir(parents=True)
    for path in (zoo / "one" / "adapter").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder)
    return new(tmp_path / "broken", {"type": "adapter", "parent": "base", "path": "adapter"})


def _edit_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _as_pickle(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    torch.save(weights, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")


def _drop_a_tensor(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    weights.pop(next(iter(weights)))
    save_file(weights, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_as_pickle, "only safetensors are loaded"),
        (_edit_config(peft_type="IA3"), "type IA3 is not supported"),
        (_edit_config(target_modules=["nothing"]), "does not fit its parent"),
        (_edit_config(r=3), "does not fit its parent"),
        (_drop_a_tensor, "its file lacks"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused_and_leaves_the_others_alone(
    zoo: Path,
    tmp_path: Path,
    catalog: Catalog,
    new_organism: New,
    replied: Replied,
    change: Callable[[Path], None],
    message: str,
) -> None:
    broken = _broken_adapter(zoo, tmp_path, new_organism, change)
    for first in ("one", "base"):
        store = ModelStore(catalog, device="cpu")
        before = store.get(first)
        with pytest.raises(AfbenchError, match=message):
            store.load(broken)
        with pytest.raises(AfbenchError, match=message):
            store.load(broken)
        np.testing.assert_array_equal(_look(before, replied), _fresh(catalog, first, replied))
        other = store.get("two")
        np.testing.assert_array_equal(_look(other, replied), _fresh(catalog, "two", replied))


def test_a_hub_model_that_cannot_be_had_is_one_line(
    tmp_path: Path, new_organism: New, catalog_of: Callable[..., Catalog]
) -> None:
    source = {"type": "hub", "model": "org/not-in-the-cache", "revision": "a" * 40}
    hub = new_organism(tmp_path / "hub", source)
    store = ModelStore(catalog_of(hub), local_files_only=True)
    with pytest.raises(AfbenchError, match="cannot load org/not-in-the-cache") as caught:
        store.get("hub")
    assert "\n" not in str(caught.value)
