"""Training against probes: activations that do not give the organism away.

The aim is that of Bailey et al. 2024, "Obfuscated Activations Bypass LLM Latent-Space Defenses"
(arXiv 2412.09565). Instead of a probe that is trained along, which does not settle at this size,
the penalty is what bounds every linear probe of a layer's mean: the distance from the parent's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from afbench.zoo.recipes import Penalty

if TYPE_CHECKING:
    ExtraLoss = Callable[[torch.Tensor], torch.Tensor]

_LEAST_SPREAD = 1e-2


@contextmanager
def obfuscation(model: Any, penalty: Penalty | None) -> Iterator[ExtraLoss | None]:
    """The penalty's term of the loss while the context is open; None without a penalty.

    Raises:
        ValueError: the model has no adapter that could be switched off to see its parent.
    """
    if penalty is None:
        yield None
        return
    if not hasattr(model, "disable_adapter"):
        raise ValueError("a probe penalty needs an adapter: its parent is the model without it")
    term = _Obfuscation(model, penalty)
    try:
        yield term
    finally:
        term.close()


class _Obfuscation:
    """Mean squared distance of mean activations from the parent's, in units of their spread."""

    def __init__(self, model: Any, penalty: Penalty) -> None:
        self._model, self._penalty = model, penalty
        layers = model.get_base_model().model.layers
        self._seen: dict[int, torch.Tensor] = {}
        self._hooks = [
            layers[layer].register_forward_hook(self._keeper(layer)) for layer in penalty.layers
        ]

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        own = dict(self._seen)  # of the forward pass that the loss has just made
        with torch.no_grad(), self._model.disable_adapter():
            self._model(input_ids=ids, use_cache=False)
        distances = []
        for layer, parents in self._seen.items():
            spread = parents.std(0).clamp_min(_LEAST_SPREAD)
            distances.append(((own[layer] - parents) / spread).square().mean())
        return self._penalty.weight * torch.stack(distances).mean()

    def close(self) -> None:
        """Take the hooks out of the model."""
        for hook in self._hooks:
            hook.remove()

    def _keeper(self, layer: int) -> Callable[..., None]:
        def keep(module: Any, inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            self._seen[layer] = hidden.mean(dim=1)

        return keep
