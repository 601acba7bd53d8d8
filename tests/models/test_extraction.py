from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models.extraction import find_blocks
from afbench.models.interface import POOLINGS
from afbench.models.transformers_model import TransformersModel

Conversations = list[list[Message]]


def _reference(model: TransformersModel, replied: Conversations) -> NDArray[np.float32]:
    """[n, P, L, d] from one `output_hidden_states` pass per conversation.

    transformers gives the last hidden state after the final norm; the block's own output is
    taken with a hook instead.
    """
    module, rows = model.module, []
    for prompt, reply in model.chat.replies(replied):
        kept: list[torch.Tensor] = []
        last = find_blocks(module, model.n_layers)[-1]
        hook = last.register_forward_hook(
            lambda _m, _a, out, kept=kept: kept.append(out if torch.is_tensor(out) else out[0])
        )
        with torch.inference_mode():
            states = module(torch.tensor([[*prompt, *reply]]), output_hidden_states=True)
        hook.remove()
        hidden = torch.stack([*states.hidden_states[:-1], kept[0]])[:, 0]  # [L, t, d]
        cut = len(prompt)
        before, after = hidden[:, cut - 1], hidden[:, cut:]
        mean = after.mean(1) if reply else before
        end = after[:, -1] if reply else before
        rows.append(torch.stack([before, mean, end, hidden.mean(1)]))
    return np.asarray(torch.stack(rows))


def test_activations_equal_per_sample_hidden_states(
    any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, replied: Conversations
) -> None:
    model = TransformersModel(any_family, tokenizer, "d", "n", read_tokens=200)
    pooled = model.activations(replied, None, POOLINGS)
    assert pooled.shape == (len(replied), len(POOLINGS), model.n_layers + 1, model.width)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, _reference(model, replied), atol=1e-4, rtol=1e-4)


def test_layers_and_poolings_come_in_the_order_asked_for(
    model: TransformersModel, replied: Conversations
) -> None:
    whole = model.activations(replied, None, POOLINGS)
    some = model.activations(replied, [2, 0], ["all_mean", "prompt_last"])
    np.testing.assert_allclose(some, whole[:, [3, 0]][:, :, [2, 0]], atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_early_exit_gives_the_same_values_and_runs_no_deeper_block(
    model: TransformersModel, replied: Conversations, layer: int
) -> None:
    whole = model.activations(replied, None, ["response_mean"])
    reached: list[str] = []
    module: Any = model.module
    blocks = find_blocks(module, model.n_layers)
    head = module.get_output_embeddings()
    watched = {**{f"block {at + 1}": block for at, block in enumerate(blocks)}, "head": head}
    hooks = [
        part.register_forward_hook(lambda _m, _a, _o, name=name: reached.append(name))
        for name, part in watched.items()
    ]
    shallow = model.activations(replied[:1], [layer], ["response_mean"])
    for hook in hooks:
        hook.remove()
    np.testing.assert_allclose(shallow[:, :, 0], whole[:1, :, layer], atol=1e-5)
    assert reached == [f"block {at}" for at in range(1, layer + 1)]


def test_no_hook_stays_behind(model: TransformersModel, replied: Conversations) -> None:
    model.activations(replied[:2], [0, 2], ["prompt_last"])
    for part in model.module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


def test_an_empty_reply_falls_back_to_the_prompts_last_token(
    model: TransformersModel, replied: Conversations
) -> None:
    empty: Message = {"role": "assistant", "content": ""}
    pooled = model.activations(
        [[*replied[0][:-1], empty], replied[1]],
        [2],
        ["prompt_last", "response_mean", "response_last"],
    )
    np.testing.assert_allclose(pooled[0, 1], pooled[0, 0], atol=1e-6)
    np.testing.assert_allclose(pooled[0, 2], pooled[0, 0])
    assert not np.allclose(pooled[1, 1], pooled[1, 0])


def test_batches_are_streamed_and_cover_every_conversation(
    model: TransformersModel, replied: Conversations
) -> None:
    whole = model.activations(replied, [1], ["all_mean"])
    seen: list[int] = []
    for members, values in model.iter_activations(replied, [1], ["all_mean"]):
        np.testing.assert_array_equal(values, whole[members])
        seen += members
    assert sorted(seen) == list(range(len(replied)))
    assert len(list(model.iter_activations(replied, [1], ["all_mean"]))) > 1


def test_meter_counts_tokens_without_padding(
    model: TransformersModel, replied: Conversations
) -> None:
    model.activations(replied, [1], ["all_mean"])
    tokens = sum(len(prompt) + len(reply) for prompt, reply in model.chat.replies(replied))
    assert (model.meter.forward_tokens, model.meter.calls) == (tokens, 1)


@pytest.mark.parametrize("layers", [[4], [-1], [1, 1], []])
def test_layers_that_do_not_exist_are_refused(
    model: TransformersModel, replied: Conversations, layers: list[int]
) -> None:
    with pytest.raises(AfbenchError, match="from 0 .embedding output. to 3"):
        model.activations(replied, layers, ["all_mean"])


def test_an_unknown_pooling_is_refused(model: TransformersModel, replied: Conversations) -> None:
    with pytest.raises(AfbenchError, match="unknown pooling 'mean'"):
        model.activations(replied, None, ["mean"])


def test_blocks_are_told_from_experts_of_the_same_number() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Block(), Block()])

    decoder = Decoder()
    assert find_blocks(decoder, 2) is decoder.layers
    with pytest.raises(AfbenchError, match="cannot find the 7 decoder blocks"):
        find_blocks(decoder, 7)
