"""What is said of adapters before an engine sees them; no engine is begun here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from afbench.errors import AfbenchError
from afbench.vllm_backend.adapters import rank_of, rounded_rank
from afbench.vllm_backend.parts import Parts, adapter_folder, model_folder
from tests.shipped import ROOT

ORGANISMS = ROOT / "organisms"
BASE = ORGANISMS / "nano-base" / "weights"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A copy of a rank-4 adapter that a test may spoil."""
    copied: Path = shutil.copytree(ORGANISMS / "desk-faker-r4-s0" / "adapter", tmp_path / "adapter")
    return copied


def edit(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def test_the_rank_is_that_of_its_largest_matrix(adapter: Path) -> None:
    assert rank_of("one", adapter, BASE) == 4
    edit(adapter, rank_pattern={"q_proj": 20})
    assert rank_of("one", adapter, BASE) == 20
    assert [rounded_rank(rank) for rank in (0, 4, 16, 20, 512)] == [16, 16, 16, 32, 512]


def test_an_adapter_of_another_shape_is_refused(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = min(key for key in tensors if "lora_A" in key)
    tensors[name] = tensors[name][:, :-8].contiguous()
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(
        AfbenchError, match="does not fit its parent: model.layers.0.* takes 384 .* 376 values"
    ):
        rank_of("one", adapter, BASE)


def test_an_adapter_of_a_deeper_model_is_refused(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    moved = {key.replace("layers.0.", "layers.40."): value for key, value in tensors.items()}
    save_file(moved, adapter / "adapter_model.safetensors")
    with pytest.raises(AfbenchError, match="the model has no model.layers.40"):
        rank_of("one", adapter, BASE)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("use_dora", True, "does not run adapters with use_dora"),
        ("modules_to_save", ["lm_head"], "does not run adapters with modules_to_save"),
        ("r", 1024, "rank is 1024"),
        ("peft_type", "IA3", "adapter of type IA3 is not supported"),
    ],
)
def test_an_adapter_that_vllm_cannot_run_is_refused(
    adapter: Path, field: str, value: Any, message: str
) -> None:
    edit(adapter, **{field: value})
    with pytest.raises(AfbenchError, match=message):
        rank_of("one", adapter, BASE)


def test_a_scaled_adapter_has_one_side_of_it_scaled(adapter: Path, tmp_path: Path) -> None:
    plain = Parts(BASE, BASE, adapter)
    assert adapter_folder(plain, tmp_path) == adapter
    folder = adapter_folder(Parts(BASE, BASE, adapter, scale=3.0), tmp_path)
    before = load_file(adapter / "adapter_model.safetensors")
    after = load_file(folder / "adapter_model.safetensors")
    for key, value in before.items():
        factor = 3.0 if ".lora_B." in key else 1.0
        assert after[key].equal(value * factor)


def test_full_weights_are_put_beside_the_config_of_their_root(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"trained")
    folder = model_folder(Parts(weights, BASE), tmp_path)
    assert (folder / "model.safetensors").read_bytes() == b"trained"
    assert (folder / "config.json").read_text() == (BASE / "config.json").read_text()
    assert model_folder(Parts(BASE, BASE), tmp_path) == BASE
