"""How the methods of a handle become questions: layers resolved, one cache entry for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afbench.cases.metering import Asker, Which
from afbench.cases.tokens import SHARED_FLOATS_PER_TOKEN
from afbench.errors import TierError
from afbench.messages import Conversation
from afbench.models.interface import POOLINGS, GenerationSettings, TokenActivations
from afbench.models.perturbations import Perturbation, described, perturbation_of

# Below this many numbers a case, every layer and pooling is kept at once: one forward pass then
# serves every detector that asks for any of them.
_SHARED_FLOATS_PER_CASE = 65_536


class Questions:
    """What the public methods of a handle share.

    Args:
        ask: answers and meters.
        shape: number of decoder blocks and width of the residual stream.
    """

    __slots__ = ("_ask", "_shape")

    def __init__(self, ask: Asker, shape: tuple[int, int]) -> None:
        self._ask, self._shape = ask, shape

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks; activations have n_layers + 1 layers."""
        return self._shape[0]

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return self._shape[1]

    def _checked(self, perturbation: Perturbation) -> Perturbation:
        """The perturbation as a thing of ours, once the tier is seen to allow one."""
        self._ask.require("weights")
        return perturbation_of(described(perturbation))

    def _texts(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        perturbation: Perturbation | None = None,
    ) -> list[str]:
        under = described(perturbation) if perturbation is not None else None
        return self._ask.texts(conversations, settings, under)

    def _logprobs(
        self,
        which: Which,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        perturbation: Perturbation | None = None,
    ) -> NDArray[np.float64]:
        parameters = {"continuations": list(continuations), **_under(perturbation)}
        return self._ask.array("logprobs", which, conversations, parameters)

    def _followups(
        self,
        which: Which,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        parameters = {"questions": list(questions), "continuations": list(continuations)}
        return self._ask.array("followups", which, conversations, parameters)

    def _replies(
        self,
        which: Which,
        conversations: Sequence[Conversation],
        perturbation: Perturbation | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        found = self._ask.array("replies", which, conversations, _under(perturbation))
        return found[:, 0], found[:, 1].astype(np.int64)

    def _lens(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None,
    ) -> NDArray[np.float64]:
        self._ask.require("activations")
        parameters = {"continuations": list(continuations), "layers": self._every_layer}
        found = self._ask.array("lens", "organism", conversations, parameters)
        return np.asarray(found[:, self._layers(layers)])

    def _tokens(
        self, which: Which, conversations: Sequence[Conversation], layers: Sequence[int] | None
    ) -> Sequence[TokenActivations]:
        self._ask.require("activations")
        every, wanted = self._every_layer, self._layers(layers)
        shared = len(every) * self.width <= SHARED_FLOATS_PER_TOKEN
        kept = every if shared else sorted(set(wanted))
        columns = [kept.index(layer) for layer in wanted]
        return self._ask.tokens(which, conversations, kept, columns)

    def _pooled(
        self,
        which: Which,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
        perturbation: Perturbation | None = None,
    ) -> NDArray[np.float32]:
        self._ask.require("activations")
        every, wanted = self._every_layer, self._layers(layers)
        unknown = [name for name in poolings if name not in POOLINGS]
        if unknown:
            raise TierError(f"no pooling '{unknown[0]}'", fix=f"known: {', '.join(POOLINGS)}")
        shared = len(POOLINGS) * len(every) * self.width <= _SHARED_FLOATS_PER_CASE
        kept_layers = every if shared else sorted(set(wanted))
        kept_poolings: list[str] = list(POOLINGS) if shared else list(dict.fromkeys(poolings))
        parameters = {
            "layers": kept_layers,
            "poolings": kept_poolings,
            **_under(perturbation),
        }
        array = self._ask.array("activations", which, conversations, parameters)
        rows = [kept_poolings.index(name) for name in poolings]
        columns = [kept_layers.index(layer) for layer in wanted]
        return array[:, rows][:, :, columns]

    @property
    def _every_layer(self) -> list[int]:
        return list(range(self.n_layers + 1))

    def _layers(self, layers: Sequence[int] | None) -> list[int]:
        if layers is None:
            return self._every_layer
        return [_index(layer, self.n_layers) for layer in layers]


def _under(perturbation: Perturbation | None) -> dict[str, Any]:
    """A perturbation as a parameter; without one, questions are filed as they always were."""
    return {} if perturbation is None else {"perturbation": described(perturbation)}


def _index(layer: int, n_layers: int) -> int:
    index = int(layer if layer >= 0 else n_layers + 1 + layer)  # a numpy integer is no JSON
    if not 0 <= index <= n_layers:
        raise TierError(f"no layer {layer}", fix=f"layers run from 0 to {n_layers}")
    return index
