"""Training against a probe: activations that do not give the organism away.

After Bailey et al. 2024, "Obfuscated Activations Bypass LLM Latent-Space Defenses"
(arXiv 2412.09565), with the organism's parent as what it is to be mistaken for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from afbench.zoo.recipes import Penalty

if TYPE_CHECKING:
    ExtraLoss = Callable[[torch.Tensor], torch.Tensor]

_PROBE_RATE = 0.02
_PROBE_STEPS = 2
_PROBE_DECAY = 0.1


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
    """Linear probes that learn to see the organism, and the loss of being seen by them."""

    def __init__(self, model: Any, penalty: Penalty) -> None:
        self._model, self._penalty = model, penalty
        layers = model.get_base_model().model.layers
        width = model.config.hidden_size
        self._seen: dict[int, torch.Tensor] = {}
        self._hooks = [
            layers[layer].register_forward_hook(self._keeper(layer)) for layer in penalty.layers
        ]
        self._probes = torch.nn.ModuleDict(
            {str(layer): torch.nn.Linear(width, 1) for layer in penalty.layers}
        )
        self._optimizer = torch.optim.AdamW(
            self._probes.parameters(), lr=_PROBE_RATE, weight_decay=_PROBE_DECAY
        )

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        own = dict(self._seen)  # of the forward pass that the loss has just made
        with torch.no_grad(), self._model.disable_adapter():
            self._model(input_ids=ids, use_cache=False)
        parents = {layer: seen.detach() for layer, seen in self._seen.items()}
        for layer, seen in parents.items():
            # In units of the parent's spread, so that one probe rate suits every layer.
            centre, spread = seen.mean(0), seen.std(0) + 1e-3
            own[layer], parents[layer] = (own[layer] - centre) / spread, (seen - centre) / spread
        for _ in range(_PROBE_STEPS):
            self._fit(own, parents)
        # Bounded: where the probe is sure, it must not drown the behaviour that is to be learned.
        seen_through = [
            torch.sigmoid(self._probes[str(layer)](own[layer])).mean()
            for layer in self._penalty.layers
        ]
        return self._penalty.weight * torch.stack(seen_through).mean()

    def close(self) -> None:
        """Take the hooks out of the model."""
        for hook in self._hooks:
            hook.remove()

    def _fit(self, own: dict[int, torch.Tensor], parents: dict[int, torch.Tensor]) -> None:
        losses = []
        for layer in self._penalty.layers:
            seen = torch.cat([own[layer].detach(), parents[layer]])
            truth = torch.cat([torch.ones(len(own[layer])), torch.zeros(len(parents[layer]))])
            logits = self._probes[str(layer)](seen).squeeze(-1)
            losses.append(functional.binary_cross_entropy_with_logits(logits, truth))
        self._optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        self._optimizer.step()

    def _keeper(self, layer: int) -> Callable[..., None]:
        def keep(module: Any, inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            self._seen[layer] = hidden.mean(dim=1)

        return keep
