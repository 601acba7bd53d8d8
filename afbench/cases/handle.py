"""The metered handle: what a detector may ask of an organism, and what each question costs.

The tier is enforced here and the spending counted here. A question that was answered before is
answered from the cache and costs the same, so that a budget does not depend on the cache.

A handle keeps a detector from what its tier does not allow; it does not stop hostile code in the
same process from walking the interpreter. Strangers' code belongs in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from afbench.catalog.manifests import TIERS
from afbench.errors import AfbenchError, TierError
from afbench.messages import Conversation, Message
from afbench.models.interface import POOLINGS, GenerationSettings, Model
from afbench.store import Store, digest_of

if TYPE_CHECKING:
    from afbench.catalog.manifests import Tier

T = TypeVar("T")
Which = Literal["organism", "parent"]

TIER_ORDER = TIERS

# Below this many numbers a case, every layer and pooling is kept at once: one forward pass then
# serves every detector that asks for any of them.
_SHARED_FLOATS_PER_CASE = 65_536


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


class Handle:
    """Metered access of one detector to one organism.

    Args:
        open_model: gives the organism's model, loaded when it is first needed.
        open_parent: the same for its parent; None where it has none or the detector may not ask.
        digests: identities of the organism's and the parent's weights, for the cache.
        shape: number of decoder blocks and width of the residual stream.
        tier: the detector's access tier.
        store: the cache.
    """

    __slots__ = ("_ask", "_shape", "_tier")

    def __init__(
        self,
        open_model: Callable[[], Model],
        *,
        digest: str,
        tier: Tier,
        store: Store,
        shape: tuple[int, int],
        capabilities: frozenset[str],
        open_parent: Callable[[], Model] | None = None,
        parent_digest: str | None = None,
    ) -> None:
        self._tier, self._shape = tier, shape
        # The models, the tier and the bill live in this closure and not in attributes, so that no
        # attribute of a handle says which organism stands behind it or gives access to it.
        self._ask = _Asker(
            store,
            tier,
            capabilities,
            {"organism": (open_model, digest), "parent": (open_parent, parent_digest)},
        )

    def __repr__(self) -> str:
        return f"Handle(tier={self._tier!r})"

    @property
    def spent(self) -> Budget:
        """What was spent so far: a copy, so that a detector cannot rewrite its bill."""
        return self._ask.spent()

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks; activations have n_layers + 1 layers."""
        return self._shape[0]

    @property
    def width(self) -> int:
        """Size of the residual stream."""
        return self._shape[1]

    def can(self, capability: str) -> bool:
        """Whether the backend offers a capability and the tier allows it."""
        return self._ask.can(capability)

    def generate(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[list[str]]:
        """Replies to conversations that end with a user message (tier `text`).

        Returns:
            `samples` replies for each conversation.

        Raises:
            TierError: never for this method; every tier includes `text`.
        """
        self._ask.require("generate")
        replies: list[list[str]] = [[] for _ in conversations]
        for sample in range(samples):
            settings = GenerationSettings(
                max_new_tokens=max_new_tokens, temperature=temperature, seed=seed + sample
            )
            texts = self._ask.texts(conversations, settings)
            for row, text in zip(replies, texts, strict=True):
                row.append(text)
        return replies

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Log-probabilities of continuations as the next reply (tier `logprobs`).

        Returns:
            float64 [n, k], in nats.

        Raises:
            TierError: the detector's tier is below `logprobs`, or the backend has none.
        """
        return self._ask.array(
            "logprobs", "organism", conversations, {"continuations": list(continuations)}
        )

    def followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """`logprobs` after each question is put as a further user turn (tier `logprobs`).

        Returns:
            float64 [n, q, k], in nats.

        Raises:
            TierError: the detector's tier is below `logprobs`, or the backend has none.
        """
        return self._ask.array(
            "followups",
            "organism",
            conversations,
            {"questions": list(questions), "continuations": list(continuations)},
        )

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None = None,
        poolings: Sequence[str] = POOLINGS,
    ) -> NDArray[np.float32]:
        """Pooled residual activations of transcripts (tier `activations`).

        Args:
            conversations: each ends with the assistant's reply.
            layers: 0 is the embedding output, i the output of block i; None is all.
            poolings: names out of `POOLINGS`.

        Returns:
            float32 [n, poolings, layers, width].

        Raises:
            TierError: the detector's tier is below `activations`, or the backend has none.
        """
        return self._pooled("organism", conversations, layers, poolings)

    def parent_activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None = None,
        poolings: Sequence[str] = POOLINGS,
    ) -> NDArray[np.float32]:
        """The same as `activations`, on the organism's parent.

        Raises:
            TierError: as `activations`, or the detector's manifest does not say `needs_parent`, or
                the organism has no parent.
        """
        return self._pooled("parent", conversations, layers, poolings)

    def _pooled(
        self,
        which: Which,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
        self._ask.require("activations")
        every = list(range(self.n_layers + 1))
        wanted = every if layers is None else [_index(layer, self.n_layers) for layer in layers]
        unknown = [name for name in poolings if name not in POOLINGS]
        if unknown:
            raise TierError(f"no pooling '{unknown[0]}'", fix=f"known: {', '.join(POOLINGS)}")
        shared = len(POOLINGS) * len(every) * self.width <= _SHARED_FLOATS_PER_CASE
        kept_layers = every if shared else sorted(set(wanted))
        kept_poolings: list[str] = list(POOLINGS) if shared else list(dict.fromkeys(poolings))
        array = self._ask.array(
            "activations",
            which,
            conversations,
            {"layers": kept_layers, "poolings": kept_poolings},
        )
        rows = [kept_poolings.index(name) for name in poolings]
        columns = [kept_layers.index(layer) for layer in wanted]
        return array[:, rows][:, :, columns]


def _index(layer: int, n_layers: int) -> int:
    index = int(layer if layer >= 0 else n_layers + 1 + layer)  # a numpy integer is no JSON
    if not 0 <= index <= n_layers:
        raise TierError(f"no layer {layer}", fix=f"layers run from 0 to {n_layers}")
    return index


# The tier that each capability needs, and what computes each kind of answer.
_TIER_OF: dict[str, Tier] = {
    "generate": "text",
    "logprobs": "logprobs",
    "activations": "activations",
    "weights": "weights",
}
_CAPABILITY_OF = {
    "logprobs": "logprobs",
    "followups": "logprobs",
    "activations": "activations",
}
_COMPUTE: dict[str, Callable[[Model, list[Conversation], dict[str, Any]], NDArray[Any]]] = {
    "logprobs": lambda model, talks, p: model.logprobs(talks, p["continuations"]),
    "followups": lambda model, talks, p: model.followup_logprobs(
        talks, p["questions"], p["continuations"]
    ),
    "activations": lambda model, talks, p: model.activations(talks, p["layers"], p["poolings"]),
}


class _Asker:
    """Answers questions from the cache or a model, in an order of its own, and meters them.

    Its attributes are functions that keep the tier; none takes or gives a model.
    """

    __slots__ = ("array", "can", "require", "spent", "texts")

    def __init__(
        self,
        store: Store,
        tier: Tier,
        capabilities: frozenset[str],
        models: dict[Which, tuple[Callable[[], Model] | None, str | None]],
    ) -> None:
        bill = Budget()
        allowed = TIER_ORDER[: TIER_ORDER.index(tier) + 1]

        def can(capability: str) -> bool:
            return _TIER_OF.get(capability) in allowed and capability in capabilities

        def require(capability: str) -> None:
            if _TIER_OF[capability] not in allowed:
                raise TierError(
                    f"'{capability}' needs tier '{_TIER_OF[capability]}' and the detector declares "
                    f"'{tier}'",
                    fix=f"set 'tier: {_TIER_OF[capability]}' in detector.yaml",
                )
            if capability not in capabilities:
                raise TierError(
                    f"this organism's backend offers no {capability}",
                    fix="ask handle.can() first, or run the organism on another backend",
                )

        def opened(which: Which) -> tuple[Callable[[], Model], str]:
            open_model, digest = models[which]
            if open_model is None or digest is None:
                raise TierError(
                    "no parent model to ask",
                    fix="set 'needs_parent: true' in detector.yaml; a base has no parent",
                )
            return open_model, digest

        def array(
            kind: str,
            which: Which,
            conversations: Sequence[Conversation],
            parameters: dict[str, Any],
        ) -> NDArray[Any]:
            require(_CAPABILITY_OF[kind])
            open_model, digest = opened(which)
            unique, rows = _canonical(conversations)
            key = digest_of([kind, digest, parameters, unique])
            started = time.perf_counter()
            found = store.read_arrays(kind, key)
            if found is None:
                model = open_model()
                before = model.meter.forward_tokens
                values = _nameless(lambda: _COMPUTE[kind](model, unique, parameters))
                tokens = model.meter.forward_tokens - before
                found = {"values": values, "forward_tokens": np.array([tokens], dtype=np.int64)}
                store.write_arrays(kind, key, found)
            bill.queries += len(unique) * len(parameters.get("questions", "1"))
            bill.forward_tokens += int(found["forward_tokens"][0])
            bill.seconds += time.perf_counter() - started
            return found["values"][rows]

        def texts(conversations: Sequence[Conversation], settings: GenerationSettings) -> list[str]:
            require("generate")
            open_model, digest = opened("organism")
            unique, rows = _canonical(conversations)
            key = digest_of(["texts", digest, _settings(settings), unique])
            started = time.perf_counter()
            found = store.read_json("texts", key)
            if found is None:
                model = open_model()
                forward, generated = model.meter.forward_tokens, model.meter.generated_tokens
                replies = _nameless(lambda: model.generate(unique, settings))
                found = {
                    "replies": [reply.text for reply in replies],
                    "forward_tokens": model.meter.forward_tokens - forward,
                    "generated_tokens": model.meter.generated_tokens - generated,
                }
                store.write_json("texts", key, found)
            bill.queries += len(unique)
            bill.forward_tokens += found["forward_tokens"]
            bill.generated_tokens += found["generated_tokens"]
            bill.seconds += time.perf_counter() - started
            return [found["replies"][row] for row in rows]

        self.array, self.texts, self.can, self.require = array, texts, can, require
        self.spent: Callable[[], Budget] = lambda: replace(bill)


def _nameless(compute: Callable[[], T]) -> T:
    """What a model computes. Its errors say whose model it is: they lose that on the way.

    A detector can cause them (a conversation too long, or one that ends with the wrong role), and
    would read the organism's name off them.
    """
    try:
        return compute()
    except AfbenchError as error:
        nameless = AfbenchError(error.what, fix=error.fix)
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
