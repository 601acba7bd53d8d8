"""Carries out perturbations of a model in memory, and takes them back bit for bit.

Weights that are changed are copied first and the copies put back, as no arithmetic undoes itself
exactly. What is to be undone is written down before it is done and kept with the module: a call
that is cut off half-way (a time limit) is cleared up when the module is next used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from afbench.errors import AfbenchError
from afbench.models.extraction import find_blocks
from afbench.models.perturbations import (
    ActivationNoise,
    AdapterScaling,
    FineTune,
    Perturbation,
    Steering,
    WeightNoise,
)
from afbench.models.residual_hooks import NoiseByPosition, add_to_residual

Weights = Mapping[str, torch.Tensor]


class Undo:
    """What puts a module back as it was, latest change first."""

    def __init__(self) -> None:
        self.active = False
        self._steps: list[Callable[[], object]] = []

    def later(self, step: Callable[[], object]) -> None:
        """Note how a change is taken back, before it is made; doing so twice must not harm."""
        self._steps.append(step)

    def keep(self, weight: torch.Tensor) -> None:
        """Note a weight that is about to be changed in place."""
        self.later(partial(_put_back, weight, weight.detach().clone()))

    def run(self) -> None:
        """Take every change back."""
        while self._steps:
            self._steps[-1]()
            self._steps.pop()  # only now, so that a step that is cut off is done again


_UNDO: WeakKeyDictionary[nn.Module, Undo] = WeakKeyDictionary()


def settle(model: nn.Module) -> None:
    """Take back what a perturbation that was cut off has left in a module."""
    undo = _UNDO.get(model)
    if undo is not None and not undo.active:
        undo.run()


@contextmanager
def perturbed(
    model: PreTrainedModel,
    perturbation: Perturbation,
    *,
    tune: Callable[[Undo, FineTune], None],
    parent_weights: Callable[[], Weights] | None = None,
) -> Iterator[None]:
    """Within the context the module is perturbed.

    Args:
        model: with the organism's adapter active.
        tune: trains the module as a `FineTune` says.
        parent_weights: of a full fine-tune, for `AdapterScaling`.

    Raises:
        AfbenchError: the perturbation does not fit the module, or one is in force already.
    """
    undo = _UNDO.setdefault(model, Undo())
    if undo.active:
        raise AfbenchError("a perturbation inside another is not supported")
    undo.run()
    try:
        undo.active = True
        with torch.no_grad():
            if isinstance(perturbation, ActivationNoise):
                _noise_residual(model, perturbation, undo)
            elif isinstance(perturbation, Steering):
                _steer(model, perturbation, undo)
            elif isinstance(perturbation, WeightNoise):
                _noise_weights(model, perturbation, undo)
            elif isinstance(perturbation, AdapterScaling):
                _scale(model, perturbation.scale, undo, parent_weights)
        if isinstance(perturbation, FineTune):
            tune(undo, perturbation)
        yield
    finally:
        undo.active = False
        undo.run()


def block_matrices(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The weight matrices of the decoder blocks by name, adapters left out.

    A name is the same whether adapters have been put into the base or not.
    """
    config = model.config.get_text_config()
    blocks = find_blocks(model, config.num_hidden_layers)
    return {
        name: parameter
        for name, parameter in _named(blocks)
        if parameter.dim() >= 2 and parameter.is_floating_point()
    }


def all_weights(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Every weight of a model by name, adapters left out."""
    return dict(_named(model))


def _named(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in module.named_parameters():
        if "lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter


def _put_back(weight: torch.Tensor, saved: torch.Tensor) -> None:
    with torch.no_grad():
        weight.copy_(saved)


def _noise_weights(model: PreTrainedModel, noise: WeightNoise, undo: Undo) -> None:
    for name, weight in block_matrices(model).items():
        generator = torch.Generator().manual_seed(_seed(noise.seed, name))
        sample = torch.randn(weight.shape, generator=generator)
        undo.keep(weight)
        deviation = weight.float().std()
        weight.add_((noise.sigma * deviation * sample.to(weight.device)).to(weight.dtype))


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def _noise_residual(model: PreTrainedModel, noise: ActivationNoise, undo: Undo) -> None:
    added = NoiseByPosition(noise.sigma, [noise.seed, noise.layer])
    undo.later(add_to_residual(model, noise.layer, added))


def _steer(model: PreTrainedModel, steering: Steering, undo: Undo) -> None:
    width = int(model.config.get_text_config().hidden_size)
    if len(steering.vector) != width:
        raise AfbenchError(
            f"the steering vector has {len(steering.vector)} numbers, and the model is {width} wide"
        )
    vector = steering.scale * torch.tensor(steering.vector, device=model.device)

    def added(hidden: torch.Tensor, _positions: torch.Tensor) -> torch.Tensor:
        return vector.to(hidden.device).expand_as(hidden)

    undo.later(add_to_residual(model, steering.layer, added))


def _scale(
    model: PreTrainedModel,
    scale: float,
    undo: Undo,
    parent_weights: Callable[[], Weights] | None,
) -> None:
    if parent_weights is not None:
        _interpolate(model, scale, undo, parent_weights())
        return
    layers = [
        (layer.scaling, key)
        for layer in model.modules()
        if isinstance(layer, LoraLayer) and not layer.disable_adapters
        for key in layer.active_adapters
        if key in layer.scaling
    ]
    if not layers:
        raise _nothing_to_scale()
    for scaling, key in layers:
        undo.later(partial(scaling.__setitem__, key, scaling[key]))
        scaling[key] = scaling[key] * scale


def _interpolate(model: PreTrainedModel, scale: float, undo: Undo, parent: Weights) -> None:
    own = all_weights(model)
    unlike = [name for name in own if name not in parent or parent[name].shape != own[name].shape]
    if unlike:
        raise AfbenchError(f"the parent's weights are of another shape ({unlike[0]})")
    for name, weight in own.items():
        below = parent[name].to(weight.device, weight.dtype)
        if torch.equal(below, weight):
            continue
        undo.keep(weight)
        # Exact at 0 and 1.
        weight.copy_(torch.lerp(below.float(), weight.float(), scale))


def _nothing_to_scale() -> AfbenchError:
    return AfbenchError(
        "this organism has the weights of its parent: there is nothing to scale",
        fix='ask handle.can("adapter_scaling") first',
    )


def trainable(model: PreTrainedModel, undo: Undo) -> Sequence[nn.Parameter]:
    """The matrices of the decoder blocks, kept and set to be trained; all else is not."""
    chosen = list(block_matrices(model).values())
    wanted = {id(weight) for weight in chosen}
    for parameter in model.parameters():
        undo.later(partial(_set_gradient, parameter, parameter.requires_grad))
        parameter.requires_grad_(id(parameter) in wanted)
    for weight in chosen:
        undo.keep(weight)
    return chosen


def _set_gradient(parameter: Any, required: bool) -> None:
    parameter.grad = None
    parameter.requires_grad_(required)
