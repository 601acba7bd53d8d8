"""Rounds the weights of a loaded model, as a quantised deployment would."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

BLOCK = 64


def round_weights(model: PreTrainedModel, bits: int) -> None:
    """Round every linear layer's weights in place to `bits` bits: symmetric, by blocks of 64.

    Each block of a row is scaled by its largest magnitude, as in the block-wise quantisation of
    Dettmers et al. 2022 (arXiv 2110.02861, section 2.1), with evenly spaced levels. Embeddings and
    norms stay as they are. Values stay in the model's own dtype: what is measured is what rounding
    does to behaviour, and nothing runs faster.
    """
    levels = 2 ** (bits - 1) - 1
    embedding = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight is not embedding:
            with torch.no_grad():
                module.weight.copy_(_rounded(module.weight, levels))


def _rounded(weight: torch.Tensor, levels: int) -> torch.Tensor:
    rows, width = weight.shape
    padding = -width % BLOCK
    blocks = torch.nn.functional.pad(weight.float(), (0, padding)).view(rows, -1, BLOCK)
    scale = blocks.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / levels
    rounded = (blocks / scale).round().clamp(-levels, levels) * scale
    return rounded.view(rows, -1)[:, :width].to(weight.dtype)
