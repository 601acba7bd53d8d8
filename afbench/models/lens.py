"""The logit lens: what each layer's residual would say, read by the model's own last layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from afbench.errors import AfbenchError
from afbench.models.extraction import Transcript, find_blocks, pool_batch


def final_norm(model: PreTrainedModel) -> nn.Module:
    """The norm between the last block and the unembedding: the last one beside the blocks.

    Raises:
        AfbenchError: there is none.
    """
    blocks = find_blocks(model, model.config.get_text_config().num_hidden_layers)
    path = next(name for name, module in model.named_modules() if module is blocks)
    beside = model.get_submodule(path.rpartition(".")[0])
    norms = [module for module in beside.children() if "norm" in type(module).__name__.lower()]
    if not norms:
        raise AfbenchError(f"cannot find the final norm of {type(model).__name__}")
    return norms[-1]


def lens_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    layers: Sequence[int],
    pad: int,
) -> list[torch.Tensor]:
    """Log-probability of each token after each prompt, by every layer.

    The residual at the prompt's last position goes through the final norm and the unembedding.

    Args:
        tokens: ids.
        layers: as `extraction.check_layers` returns them.

    Returns:
        For each prompt float64 [L, k] on the CPU.
    """
    rows = [Transcript(prompt, ()) for prompt in prompts]
    residuals = pool_batch(model, rows, layers, ["prompt_last"], pad)[:, 0]  # [b, L, d]
    norm, head = final_norm(model), model.get_output_embeddings()
    columns = []
    with torch.inference_mode():
        for slot in range(len(layers)):  # a layer at a time: logits are the largest array here
            states = residuals[:, slot].to(model.dtype)
            logits = _capped(head(norm(states)).float(), model.config.get_text_config())
            columns.append(torch.log_softmax(logits, dim=-1)[:, list(tokens)])
    return list(torch.stack(columns, dim=1).double().cpu())


def _capped(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What some families do to the head's output (Gemma 2, Cohere, Granite)."""
    logits = logits * (getattr(config, "logit_scale", None) or 1.0)
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits
