"""The probe penalty: it sees what an adapter adds, pushes against it, and leaves no hook behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from afbench.zoo.obfuscation import obfuscation
from afbench.zoo.recipes import Penalty

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
PENALTY = Penalty(weight=1.0, layers=[0, 1])


def tiny() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    lora = LoraConfig(r=4, target_modules=["down_proj"], init_lora_weights=False)
    return get_peft_model(Qwen2ForCausalLM(config), lora)


def hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def distance(model: Any, ids: torch.Tensor) -> float:
    """How far the adapter moves the last layer's mean activation."""
    with torch.no_grad():
        own = model(input_ids=ids, output_hidden_states=True).hidden_states[-2].mean(1)
        with model.disable_adapter():
            parents = model(input_ids=ids, output_hidden_states=True).hidden_states[-2].mean(1)
    return float((own - parents).norm() / parents.norm())


def test_training_on_the_penalty_alone_brings_the_activations_back() -> None:
    model = tiny()
    ids = torch.randint(0, 64, (32, 12), generator=torch.Generator().manual_seed(0))
    before = distance(model, ids)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with obfuscation(model, PENALTY) as extra:
        assert extra is not None
        for _ in range(120):
            model(input_ids=ids, use_cache=False)
            loss = extra(ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert distance(model, ids) < 0.6 * before


def test_no_hook_stays_and_no_penalty_is_no_term() -> None:
    model = tiny()
    with obfuscation(model, PENALTY):
        assert hooks(model) == 2
    assert hooks(model) == 0
    with obfuscation(model, None) as extra:
        assert extra is None


def test_a_full_fine_tune_has_no_parent_to_be_mistaken_for() -> None:
    with (
        pytest.raises(ValueError, match="needs an adapter"),
        obfuscation(tiny().get_base_model(), PENALTY),
    ):
        pass
