"""Pooled residual-stream activations, taken with forward hooks while the model runs.

Keeping every hidden state of a batch (`output_hidden_states`) costs memory in proportion to
layers x tokens and copies it all. Here each hook pools its layer's output at once, so that nothing
but the pooled vectors is kept, and the forward pass stops after the deepest layer asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from afbench.errors import AfbenchError
from afbench.models.batching import pad_right
from afbench.models.interface import POOLINGS

Taker = Callable[[int, torch.Tensor], object]
"""Given a layer and its output [b, t, d]."""


class _DeepestLayerReached(Exception):
    """Leaves the forward pass once everything asked for has been pooled."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Token ids of a prompt and of the reply to it."""

    prompt: Sequence[int]
    reply: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)


def find_blocks(model: nn.Module, n_layers: int) -> nn.ModuleList:
    """The decoder blocks: the outermost ModuleList with one entry for each hidden layer.

    Raises:
        AfbenchError: there is none.
    """
    lists = [
        (name.count("."), name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    if not lists:
        raise AfbenchError(
            f"cannot find the {n_layers} decoder blocks of {type(model).__name__}",
            fix="activations need a decoder-only model from transformers",
        )
    # Outermost: the experts of a mixture may happen to be as many as the layers.
    return min(lists, key=lambda entry: entry[:2])[2]


def check_layers(layers: Sequence[int] | None, n_layers: int) -> tuple[int, ...]:
    """The layers asked for; None stands for 0..n_layers.

    Raises:
        AfbenchError: a layer does not exist or is named twice.
    """
    if layers is None:
        return tuple(range(n_layers + 1))
    wanted = tuple(int(layer) for layer in layers)
    wrong = [layer for layer in wanted if not 0 <= layer <= n_layers]
    if wrong or not wanted or len(set(wanted)) < len(wanted):
        raise AfbenchError(
            f"cannot extract layers {list(wanted)}",
            fix=f"name each once, from 0 (embedding output) to {n_layers}",
        )
    return wanted


def check_poolings(poolings: Sequence[str]) -> tuple[str, ...]:
    """The poolings asked for.

    Raises:
        AfbenchError: a pooling is unknown, or none is named.
    """
    unknown = [name for name in poolings if name not in POOLINGS]
    if unknown or not poolings:
        raise AfbenchError(
            f"unknown pooling '{unknown[0]}'" if unknown else "no pooling is named",
            fix=f"known: {', '.join(POOLINGS)}",
        )
    return tuple(poolings)


class _Pooler:
    """Pools hidden states [b, t, d] of one batch into [b, P, d].

    A reply without tokens has no mean and no last token: response_mean and response_last are
    then the prompt's last token.
    """

    def __init__(
        self, rows: Sequence[Transcript], poolings: Sequence[str], device: torch.device
    ) -> None:
        width = max(map(len, rows))
        spans = [[span(row, pooling) for row in rows] for pooling in poolings]
        self.means = [at for at, name in enumerate(poolings) if name.endswith("_mean")]
        self.lasts = [at for at, name in enumerate(poolings) if name.endswith("_last")]
        weights = torch.zeros(len(rows), len(self.means), width)
        for slot, at in enumerate(self.means):
            for row, (start, stop) in enumerate(spans[at]):
                weights[row, slot, start:stop] = 1 / (stop - start)
        self.weights = weights.to(device)
        last = [[spans[at][row][1] - 1 for at in self.lasts] for row in range(len(rows))]
        self.positions = torch.tensor(last, dtype=torch.long, device=device)
        self.rows = torch.arange(len(rows), device=device)[:, None]

    def __call__(self, hidden: torch.Tensor, into: torch.Tensor) -> None:
        """Write the pooled vectors into `into` [b, P, d]."""
        if self.lasts:
            into[:, self.lasts] = hidden[self.rows, self.positions].float()
        if self.means:
            # One matrix product reads the hidden states once for all means.
            into[:, self.means] = torch.bmm(self.weights, hidden.float())


def span(row: Transcript, pooling: str) -> tuple[int, int]:
    """First token and one past the last token that a pooling covers."""
    prompt = len(row.prompt)
    if pooling == "all_mean":
        return 0, len(row)
    if pooling == "prompt_last" or not row.reply:
        return prompt - 1, prompt
    return prompt, len(row)


def pool_batch(
    model: PreTrainedModel,
    rows: Sequence[Transcript],
    layers: Sequence[int],
    poolings: Sequence[str],
    pad: int,
) -> torch.Tensor:
    """Run one batch and pool the layers asked for.

    Neither the blocks after the deepest layer nor the output head are run.

    Args:
        layers: as `check_layers` returns them.
        poolings: as `check_poolings` returns them.

    Returns:
        float32 [b, P, L, d] on the model's device.
    """
    config = model.config.get_text_config()
    ids = pad_right([[*row.prompt, *row.reply] for row in rows], pad, model.device)
    pooler = _Pooler(rows, poolings, ids.device)
    shape = (len(layers), len(rows), len(poolings), config.hidden_size)
    pooled = torch.empty(shape, device=ids.device)
    slots = {layer: slot for slot, layer in enumerate(layers)}
    _read(model, ids, layers, lambda layer, hidden: pooler(hidden, pooled[slots[layer]]))
    return pooled.permute(1, 2, 0, 3)


def every_token(model: PreTrainedModel, row: Transcript, layers: Sequence[int]) -> torch.Tensor:
    """Run one transcript by itself and keep every token of the layers asked for.

    Args:
        layers: as `check_layers` returns them.

    Returns:
        float32 [t, L, d] on the model's device.
    """
    kept: dict[int, torch.Tensor] = {}
    ids = torch.tensor([[*row.prompt, *row.reply]], device=model.device)
    _read(model, ids, layers, lambda layer, hidden: kept.update({layer: hidden[0].float()}))
    return torch.stack([kept[layer] for layer in layers], dim=1)


def _read(model: PreTrainedModel, ids: torch.Tensor, layers: Sequence[int], take: Taker) -> None:
    """Forward a batch up to the deepest layer asked for, and hand over each layer's output."""
    blocks = find_blocks(model, model.config.get_text_config().num_hidden_layers)
    deepest = max(layers)

    def hand_over(layer: int, hidden: torch.Tensor) -> None:
        take(layer, hidden)
        if layer == deepest:
            raise _DeepestLayerReached

    handles = [_hook(blocks, layer, hand_over) for layer in layers]
    try:
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False)
    except _DeepestLayerReached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _hook(blocks: nn.ModuleList, layer: int, take: Taker) -> Any:
    """Call `take(layer, hidden)` when the layer's output is there."""
    if layer == 0:
        # What enters the first block: the embedding with all that a family does to it (scaling,
        # dropout, learned positions).
        def before(_module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            take(0, args[0] if args else options["hidden_states"])

        return blocks[0].register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        take(layer, output if isinstance(output, torch.Tensor) else output[0])

    return blocks[layer - 1].register_forward_hook(after)
