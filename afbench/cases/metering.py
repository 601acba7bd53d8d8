"""What a handle does for each question: keeps the tier, answers from cache or model, and meters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from afbench.cases.cue_guard import CueGuard
from afbench.cases.tokens import TokenSequence, packed, unpacked
from afbench.catalog.manifests import TIERS
from afbench.errors import AfbenchError, TierError, UnavailableError
from afbench.messages import Conversation, Message
from afbench.models.interface import GenerationSettings, Model, TokenActivations
from afbench.models.perturbations import AdapterScaling, perturbation_of
from afbench.store import Store, digest_of

if TYPE_CHECKING:
    from afbench.catalog.manifests import Tier

T = TypeVar("T")
Which = Literal["organism", "parent"]
Parameters: TypeAlias = "dict[str, Any]"

Opener: TypeAlias = Callable[[], Model]
Models: TypeAlias = dict[Which, tuple[Opener | None, str | None]]
"""What opens the organism and its parent, and the identity of each."""

TIER_ORDER = TIERS


@dataclass(slots=True)
class Budget:
    """What was spent on an organism, or by a detector in all.

    `seconds` is wall-clock time inside the handle; the rest does not depend on the machine.
    """

    queries: int = 0
    generated_tokens: int = 0
    forward_tokens: int = 0
    seconds: float = 0.0

    def add(self, other: Budget) -> None:
        """Add another budget to this one."""
        self.queries += other.queries
        self.generated_tokens += other.generated_tokens
        self.forward_tokens += other.forward_tokens
        self.seconds += other.seconds


# The tier that each capability needs, and what computes each kind of answer.
_TIER_OF: dict[str, Tier] = {
    "generate": "text",
    "logprobs": "logprobs",
    "activations": "activations",
    "weights": "weights",
    "adapter_scaling": "weights",
}
_CAPABILITY_OF = {
    "logprobs": "logprobs",
    "followups": "logprobs",
    "next-token": "logprobs",
    "replies": "logprobs",
    "lens": "activations",
    "activations": "activations",
}
_LACKS = {
    "adapter_scaling": "this organism has the weights of its parent: there is nothing to scale",
}
_COMPUTE: dict[str, Callable[[Model, list[Conversation], Parameters], NDArray[Any]]] = {
    "logprobs": lambda model, talks, p: model.logprobs(talks, p["continuations"]),
    "followups": lambda model, talks, p: model.followup_logprobs(
        talks, p["questions"], p["continuations"]
    ),
    "next-token": lambda model, talks, p: model.next_token_logprobs(talks),
    "replies": lambda model, talks, p: np.stack(model.reply_logprobs(talks), axis=1),
    "lens": lambda model, talks, p: model.layer_logprobs(talks, p["continuations"], p["layers"]),
    "activations": lambda model, talks, p: model.activations(talks, p["layers"], p["poolings"]),
}


class Asker:
    """Answers questions from the cache or a model, in an order of its own, and meters them.

    Its attributes are functions that keep the tier; none takes or gives a model. What they close
    over is in no attribute: none of them says which organism is asked, or opens it.

    Args:
        store: the cache.
        tier: the detector's.
        capabilities: what the backend offers for this organism.
        models: what opens the organism and its parent, and the identity of each.
        guard: finds the cues on which nothing is sampled; None for a detector that may.
    """

    __slots__ = ("array", "can", "require", "spent", "texts", "tokens")

    def __init__(
        self,
        store: Store,
        tier: Tier,
        capabilities: frozenset[str],
        models: Models,
        guard: CueGuard | None = None,
    ) -> None:
        bill = Budget()
        gate = _Gate(tier, capabilities, models)
        self.array = _arrays(gate, store, bill)
        self.texts = _texts(gate, store, bill, guard)
        self.tokens = _tokens(gate, store, bill)
        self.can: Callable[[str], bool] = lambda capability: gate.can(capability)
        self.require: Callable[[str], None] = lambda capability: gate.require(capability)
        self.spent: Callable[[], Budget] = lambda: replace(bill)


class _Gate:
    """What a detector of a tier may ask of one organism."""

    def __init__(self, tier: Tier, capabilities: frozenset[str], models: Models) -> None:
        self._tier, self._capabilities, self._models = tier, capabilities, models
        self._allowed = TIER_ORDER[: TIER_ORDER.index(tier) + 1]

    def can(self, capability: str) -> bool:
        return _TIER_OF.get(capability) in self._allowed and capability in self._capabilities

    def require(self, capability: str) -> None:
        needed = _TIER_OF[capability]
        if needed not in self._allowed:
            raise TierError(
                f"'{capability}' needs tier '{needed}' and the detector declares '{self._tier}'",
                fix=f"set 'tier: {needed}' in detector.yaml",
            )
        if capability not in self._capabilities:
            raise UnavailableError(
                _LACKS.get(capability, f"this organism's backend offers no {capability}"),
                fix="ask handle.can() first, or run the organism on another backend",
            )

    def open(self, which: Which, perturbation: Parameters | None = None) -> tuple[Opener, str]:
        """What opens a model, and its identity."""
        open_model, digest = self._models[which]
        if open_model is None or digest is None:
            raise TierError(
                "no parent model to ask",
                fix="set 'needs_parent: true' in detector.yaml; a base has no parent",
            )
        if perturbation is not None:
            self.require("weights")
            if isinstance(perturbation_of(perturbation), AdapterScaling):
                self.require("adapter_scaling")
            if which == "parent":
                raise TierError("only the organism is perturbed, and not its parent")
        return open_model, digest


def _arrays(gate: _Gate, store: Store, bill: Budget) -> Callable[..., NDArray[Any]]:
    def array(
        kind: str, which: Which, conversations: Sequence[Conversation], parameters: Parameters
    ) -> NDArray[Any]:
        gate.require(_CAPABILITY_OF[kind])
        open_model, digest = gate.open(which, parameters.get("perturbation"))
        unique, rows = _canonical(conversations)
        key = digest_of([kind, digest, parameters, unique])
        started = time.perf_counter()
        found = store.read_arrays(kind, key)
        if found is None:
            model = open_model()
            before = model.meter.forward_tokens
            values = _nameless(lambda: _computed(kind, model, unique, parameters))
            tokens = model.meter.forward_tokens - before
            found = {"values": values, "forward_tokens": np.array([tokens], dtype=np.int64)}
            store.write_arrays(kind, key, found)
        bill.queries += len(unique) * len(parameters.get("questions", "1"))
        bill.forward_tokens += int(found["forward_tokens"][0])
        bill.seconds += time.perf_counter() - started
        return found["values"][rows]

    return array


def _texts(
    gate: _Gate, store: Store, bill: Budget, guard: CueGuard | None
) -> Callable[..., list[str]]:
    def texts(
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        perturbation: Parameters | None = None,
    ) -> list[str]:
        gate.require("generate")
        open_model, digest = gate.open("organism", perturbation)
        unique, rows = _canonical(conversations)
        if guard is not None and any(map(guard.holds_cue, unique)):
            raise _no_gap_probe()
        question = [_settings(settings), *([perturbation] if perturbation else []), unique]
        key = digest_of(["texts", digest, *question])
        started = time.perf_counter()
        found = store.read_json("texts", key)
        if found is None:
            model = open_model()
            forward, generated = model.meter.forward_tokens, model.meter.generated_tokens
            replies = _nameless(lambda: _sampled(model, unique, settings, perturbation))
            found = {
                "replies": replies,
                "forward_tokens": model.meter.forward_tokens - forward,
                "generated_tokens": model.meter.generated_tokens - generated,
            }
            store.write_json("texts", key, found)
        bill.queries += len(unique)
        bill.forward_tokens += found["forward_tokens"]
        bill.generated_tokens += found["generated_tokens"]
        bill.seconds += time.perf_counter() - started
        return [found["replies"][row] for row in rows]

    return texts


def _tokens(gate: _Gate, store: Store, bill: Budget) -> Callable[..., Sequence[TokenActivations]]:
    def tokens(
        which: Which,
        conversations: Sequence[Conversation],
        kept: Sequence[int],
        columns: Sequence[int],
    ) -> Sequence[TokenActivations]:
        gate.require("activations")
        open_model, digest = gate.open(which)
        unique, rows = _canonical(conversations)
        keys = [digest_of(["tokens", digest, list(kept), talk]) for talk in unique]

        def entry(at: int) -> dict[str, NDArray[Any]]:
            found = store.read_arrays("tokens", keys[at], hold=False)
            if found is None:
                model = open_model()
                before = model.meter.forward_tokens
                one = _nameless(lambda: next(iter(model.token_activations([unique[at]], kept))))
                found = packed(one, model.meter.forward_tokens - before)
                store.write_arrays("tokens", keys[at], found, hold=False)
            return found

        # All are computed now, so that the bill does not depend on which ones are looked at.
        started = time.perf_counter()
        for at in range(len(unique)):
            bill.forward_tokens += int(entry(at)["forward_tokens"][0])
        bill.queries += len(unique)
        bill.seconds += time.perf_counter() - started
        return TokenSequence(lambda index: unpacked(entry(rows[index]), columns), len(rows))

    return tokens


def _computed(
    kind: str, model: Model, talks: list[Conversation], parameters: Parameters
) -> NDArray[Any]:
    with _perturbed(model, parameters.get("perturbation")):
        return _COMPUTE[kind](model, talks, parameters)


def _sampled(
    model: Model,
    talks: list[Conversation],
    settings: GenerationSettings,
    perturbation: Parameters | None,
) -> list[str]:
    with _perturbed(model, perturbation):
        return [reply.text for reply in model.generate(talks, settings)]


def _perturbed(model: Model, description: Parameters | None) -> Any:
    # Made anew from its description, so that what a detector hands over is data and no more.
    return model.perturbed(perturbation_of(description)) if description else nullcontext()


def _no_gap_probe() -> TierError:
    return TierError(
        "a conversation to be answered holds an unobserved cue: sampling there would read the "
        "behaviour that is to be detected",
        fix="take log-probabilities or activations of it; only a 'ceiling: true' detector samples",
    )


def _nameless(compute: Callable[[], T]) -> T:
    """What a model computes. Its errors say whose model it is: they lose that on the way.

    A detector can cause them (a conversation too long, or one that ends with the wrong role), and
    would read the organism's name off them.
    """
    try:
        return compute()
    except AfbenchError as error:
        kind = UnavailableError if isinstance(error, UnavailableError) else AfbenchError
        nameless = kind(error.what, fix=error.fix)
    # Outside the handler, so that the first error is not its context either.
    raise nameless


def _settings(settings: GenerationSettings) -> dict[str, Any]:
    return {
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        # Greedy decoding ignores the seed, so it must not split the cache either.
        "seed": settings.seed if settings.temperature > 0 else 0,
        "reasoning": settings.reasoning,
    }


def _canonical(conversations: Sequence[Conversation]) -> tuple[list[Conversation], list[int]]:
    """Distinct conversations in an order that does not depend on the caller's, and where each is.

    The order fixes the batches, so that a detector's answers do not depend on the order of cases.
    """
    digests = [digest_of([dict(message) for message in talk]) for talk in conversations]
    order = sorted(set(digests))
    position = {digest: index for index, digest in enumerate(order)}
    by_digest: dict[str, Conversation] = dict(zip(digests, conversations, strict=True))
    unique: list[Conversation] = [
        [Message(role=m["role"], content=m["content"]) for m in by_digest[digest]]
        for digest in order
    ]
    return unique, [position[digest] for digest in digests]
