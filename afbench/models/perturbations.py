"""What may be done to an organism before it is asked again, as data.

A perturbation is a description: the backend carries it out and takes it back. `parameters` is what
a cached answer is filed under, and `perturbation_of` is its inverse, so that only the kinds named
here are ever carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, TypeAlias

from afbench.errors import AfbenchError
from afbench.messages import Conversation, Message


class _Described:
    """What the kinds share."""

    __slots__ = ()

    def parameters(self) -> dict[str, Any]:
        """A JSON-able description, its kind included."""
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class ActivationNoise(_Described):
    """Gaussian noise on the residual stream of one layer, at every position.

    The noise of a position is the same for every conversation (common random numbers), so that the
    answer to one does not hang on the others that are asked with it.

    Attributes:
        layer: 0 is the embedding output, i the output of block i.
        sigma: standard deviation in units of the RMS of the residual at each position.
        seed: of the noise.
    """

    layer: int
    sigma: float
    seed: int = 0

    def __post_init__(self) -> None:
        _plain(self, wholes=("layer", "seed"), floats=("sigma",))
        _not_negative(self.sigma, "sigma")


@dataclass(frozen=True, slots=True)
class WeightNoise(_Described):
    """Gaussian noise on every weight matrix of the decoder blocks (Tice et al. 2024, 2412.01784).

    Embeddings and norms stay as they are; an adapter stays on top of the noisy base.

    Attributes:
        sigma: standard deviation in units of each matrix's own standard deviation.
        seed: of the noise; each matrix has a stream of its own.
    """

    sigma: float
    seed: int = 0

    def __post_init__(self) -> None:
        _plain(self, wholes=("seed",), floats=("sigma",))
        _not_negative(self.sigma, "sigma")


@dataclass(frozen=True, slots=True)
class Steering(_Described):
    """A vector added to the residual stream of one layer at every position (Turner et al. 2023).

    Attributes:
        layer: 0 is the embedding output, i the output of block i.
        vector: as many numbers as the model is wide.
        scale: what the vector is multiplied by.
    """

    layer: int
    vector: tuple[float, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", tuple(map(float, self.vector)))
        if not all(map(isfinite, self.vector)):
            raise AfbenchError("the steering vector must be finite")
        _plain(self, wholes=("layer",), floats=("scale",))


@dataclass(frozen=True, slots=True)
class AdapterScaling(_Described):
    """What was trained, multiplied: parent + scale * (organism - parent).

    For an adapter its delta is scaled; full weights are interpolated with the parent's (Ilharco et
    al. 2022, 2212.04089). A prompted organism has the parent's weights: ask
    `handle.can("adapter_scaling")` first.
    """

    scale: float

    def __post_init__(self) -> None:
        _plain(self, floats=("scale",))


@dataclass(frozen=True, slots=True)
class FineTune(_Described):
    """A few steps of AdamW on the last replies of some conversations, and back again.

    The matrices of the decoder blocks are trained, whatever the organism was made by; the loss is
    the mean negative log-probability of the replies' tokens.

    Attributes:
        texts: conversations that end with the assistant's reply.
        steps: so many updates, each on `batch` conversations that are drawn in turn.
        rate: the learning rate, constant.
        seed: of the order of the conversations.
        batch: the most conversations of one step.
    """

    texts: tuple[Conversation, ...]
    steps: int
    rate: float
    seed: int = 0
    batch: int = 8

    def __post_init__(self) -> None:
        _plain(self, wholes=("steps", "seed", "batch"), floats=("rate",))
        _not_negative(self.rate, "rate")
        _not_negative(self.steps, "steps")
        if not self.texts or self.batch < 1:
            raise AfbenchError("a fine-tune needs conversations, and a batch of at least one")
        object.__setattr__(self, "texts", tuple(_copied(talk) for talk in self.texts))

    def parameters(self) -> dict[str, Any]:
        """A JSON-able description, its kind included."""
        return {
            "kind": "FineTune",
            "texts": [[dict(turn) for turn in talk] for talk in self.texts],
            "steps": self.steps,
            "rate": self.rate,
            "seed": self.seed,
            "batch": self.batch,
        }


Perturbation: TypeAlias = ActivationNoise | WeightNoise | Steering | AdapterScaling | FineTune

_KINDS: dict[str, type[Perturbation]] = {
    kind.__name__: kind
    for kind in (ActivationNoise, WeightNoise, Steering, AdapterScaling, FineTune)
}


def perturbation_of(parameters: Mapping[str, Any]) -> Perturbation:
    """The perturbation of a description: the inverse of its `parameters`.

    Raises:
        AfbenchError: no perturbation has it.
    """
    fields = dict(parameters)
    kind = _KINDS.get(str(fields.pop("kind", None)))
    try:
        if kind is None:
            raise TypeError
        return kind(**fields)
    except TypeError:
        raise AfbenchError(
            "this is no perturbation", fix=f"known: {', '.join(_KINDS)} (afbench.models)"
        ) from None


def described(perturbation: Perturbation) -> dict[str, Any]:
    """The description of a perturbation, taken from its fields and not from its word.

    Raises:
        AfbenchError: it is of none of the known kinds (a subclass is another kind).
    """
    kind = _KINDS.get(type(perturbation).__name__)
    if kind is None or type(perturbation) is not kind:
        return perturbation_of({}).parameters()
    return kind.parameters(perturbation)  # type: ignore[arg-type]


def _copied(talk: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(Message(role=turn["role"], content=turn["content"]) for turn in talk)


def _not_negative(number: float, name: str) -> None:
    if number < 0:
        raise AfbenchError(f"{name} must not be negative, and is {number}")


def _plain(owner: object, wholes: Sequence[str] = (), floats: Sequence[str] = ()) -> None:
    """Make numbers of numpy Python's own: the others are no JSON."""
    for names, kind in ((wholes, int), (floats, float)):
        for name in names:
            number = kind(getattr(owner, name))
            if not isfinite(number):
                raise AfbenchError(f"{name} must be finite, and is {number}")
            object.__setattr__(owner, name, number)
