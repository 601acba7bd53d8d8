"""Adds to the residual stream of one layer while a model runs, with or without a cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from afbench.errors import AfbenchError
from afbench.models.extraction import find_blocks

Added = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Given the residual [b, t, d] and the position of each token [b or 1, t], what is added to it."""

_BLOCK = 256


class NoiseByPosition:
    """Gaussian noise that is the same at a position in every batch.

    Args:
        sigma: in units of the RMS of the residual at each position.
        seed: of the noise.
    """

    def __init__(self, sigma: float, seed: list[int]) -> None:
        self._sigma = sigma
        self._seed = [abs(number) for number in seed] + [int(number < 0) for number in seed]
        self._blocks: list[torch.Tensor] = []

    def __call__(self, hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        width = hidden.shape[-1]
        while len(self._blocks) * _BLOCK <= int(positions.max()):
            # Block by block, so that what a position gets does not depend on how many there are.
            rng = np.random.default_rng([*self._seed, len(self._blocks)])
            self._blocks.append(torch.from_numpy(rng.standard_normal((_BLOCK, width), np.float32)))
        noise = torch.cat(self._blocks)[positions.cpu()].to(hidden.device)
        rms = hidden.float().square().mean(dim=-1, keepdim=True).sqrt()
        return self._sigma * rms * noise


class _Positions:
    """Knows where in its conversation each token of the running batch stands."""

    def __init__(self) -> None:
        self.now = torch.zeros((1, 1), dtype=torch.long)

    def watch(self, _model: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Pre-hook of the whole model."""
        ids = args[0] if args else options["input_ids"]
        mask, given = options.get("attention_mask"), options.get("position_ids")
        if given is not None:
            self.now = given[..., -ids.shape[1] :].long()
        elif mask is not None and mask.dim() == 2:
            self.now = (mask.long().cumsum(dim=1) - 1)[:, -ids.shape[1] :]
        else:
            cache = options.get("past_key_values")
            seen = int(cache.get_seq_length()) if cache is not None else 0
            self.now = torch.arange(seen, seen + ids.shape[1])[None]
        self.now = self.now.clamp(min=0)


def add_to_residual(model: PreTrainedModel, layer: int, added: Added) -> Callable[[], None]:
    """Add to a layer's residual in every forward pass.

    Args:
        layer: 0 is the embedding output, i the output of block i.

    Returns:
        What takes the hooks away; it may be called twice.

    Raises:
        AfbenchError: there is no such layer.
    """
    n_layers = int(model.config.get_text_config().num_hidden_layers)
    if not 0 <= layer <= n_layers:
        raise AfbenchError(f"no layer {layer}", fix=f"layers run from 0 to {n_layers}")
    positions = _Positions()

    def changed(hidden: torch.Tensor) -> torch.Tensor:
        return hidden + added(hidden, positions.now).to(hidden.dtype)

    def before(_block: nn.Module, args: Any, options: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), options
        return args, {**options, "hidden_states": changed(options["hidden_states"])}

    def after(_block: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return changed(output)
        return (changed(output[0]), *output[1:])

    blocks = find_blocks(model, n_layers)
    hooks = [model.register_forward_pre_hook(positions.watch, with_kwargs=True)]
    if layer == 0:
        hooks.append(blocks[0].register_forward_pre_hook(before, with_kwargs=True))
    else:
        hooks.append(blocks[layer - 1].register_forward_hook(after))

    def take_away() -> None:
        for hook in hooks:
            hook.remove()

    return take_away
