"""Rounded weights: as many levels as the bits allow, in blocks, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch

from afbench.models.rounding import BLOCK, round_weights


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 100)
        self.inner = torch.nn.Linear(100, 8)
        self.head = torch.nn.Linear(100, 10, bias=False)
        self.head.weight = self.embed.weight

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_each_block_holds_no_more_levels_than_the_bits_give(bits: int) -> None:
    torch.manual_seed(0)
    model = Tiny()
    before = model.inner.weight.detach().clone()
    round_weights(model, bits)  # type: ignore[arg-type]
    after = model.inner.weight.detach()
    for row in after:
        for block in row.split(BLOCK):
            assert len(set(block.tolist())) <= 2**bits - 1
    step = before.abs().amax() / (2 ** (bits - 1) - 1)
    assert float((after - before).abs().max()) <= float(step) / 2 + 1e-6


def test_embeddings_tied_heads_and_biases_stay() -> None:
    model = Tiny()
    embedding, bias = model.embed.weight.detach().clone(), model.inner.bias.detach().clone()
    round_weights(model, 4)  # type: ignore[arg-type]
    assert torch.equal(model.embed.weight, embedding)
    assert torch.equal(model.inner.bias, bias)
