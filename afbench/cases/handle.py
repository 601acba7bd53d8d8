"""The metered handle: what a detector may ask of an organism, and what each question costs.

The tier is enforced here and the spending counted here. A question that was answered before is
answered from the cache and costs the same, so that a budget does not depend on the cache.

A handle keeps a detector from what its tier does not allow; it does not stop hostile code in the
same process from walking the interpreter. Strangers' code belongs in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from afbench.errors import TierError
from afbench.messages import Conversation, Message
from afbench.models.interface import POOLINGS, GenerationSettings, Model
from afbench.store import Store, digest_of

if TYPE_CHECKING:
    from afbench.catalog.manifests import Tier

TIER_ORDER: tuple[Tier, ...] = ("text", "logprobs", "activations", "weights")

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

    __slots__ = ("_ask", "_shape", "_tier", "spent")

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
        self.spent = Budget()
        self._tier, self._shape = tier, shape
        # The models live in this closure and not in attributes, so that no attribute of a handle
        # says which organism stands behind it.
        self._ask = _Asker(
            self.spent,
            store,
            capabilities,
            {"organism": (open_model, digest), "parent": (open_parent, parent_digest)},
        )

    def __repr__(self) -> str:
        return f"Handle(tier={self._tier!r})"

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
        needed = {"generate": "text"}.get(capability, capability)
        return needed in TIER_ORDER[: TIER_ORDER.index(self._tier) + 1] and self._ask.offers(
            capability
        )

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
        self._require("text", "generate")
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
        self._require("logprobs", "logprobs")
        return self._ask.array(
            "logprobs",
            conversations,
            {"continuations": list(continuations)},
            lambda model, batch: model.logprobs(batch, continuations),
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
        self._require("logprobs", "logprobs")
        return self._ask.array(
            "followups",
            conversations,
            {"questions": list(questions), "continuations": list(continuations)},
            lambda model, batch: model.followup_logprobs(batch, questions, continuations),
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
        self._require("activations", "activations")
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
        self._require("activations", "activations")
        return self._pooled("parent", conversations, layers, poolings)

    def _pooled(
        self,
        which: Literal["organism", "parent"],
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> NDArray[np.float32]:
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
            conversations,
            {"layers": kept_layers, "poolings": kept_poolings},
            lambda model, batch: model.activations(batch, kept_layers, kept_poolings),
            which=which,
        )
        rows = [kept_poolings.index(name) for name in poolings]
        columns = [kept_layers.index(layer) for layer in wanted]
        return array[:, rows][:, :, columns]

    def _require(self, tier: Tier, capability: str) -> None:
        if TIER_ORDER.index(tier) > TIER_ORDER.index(self._tier):
            raise TierError(
                f"'{capability}' needs tier '{tier}' and the detector declares '{self._tier}'",
                fix=f"set 'tier: {tier}' in detector.yaml",
            )
        if not self._ask.offers(capability):
            raise TierError(
                f"this organism's backend offers no {capability}",
                fix="ask handle.can() first, or run the organism on another backend",
            )


def _index(layer: int, n_layers: int) -> int:
    index = layer if layer >= 0 else n_layers + 1 + layer
    if not 0 <= index <= n_layers:
        raise TierError(f"no layer {layer}", fix=f"layers run from 0 to {n_layers}")
    return index


class _Asker:
    """Answers questions from the cache or a model, in an order of its own, and meters them."""

    __slots__ = ("array", "offers", "texts")

    def __init__(
        self,
        spent: Budget,
        store: Store,
        capabilities: frozenset[str],
        models: dict[str, tuple[Callable[[], Model] | None, str | None]],
    ) -> None:
        def opened(which: str) -> tuple[Callable[[], Model], str]:
            open_model, digest = models[which]
            if open_model is None or digest is None:
                raise TierError(
                    "no parent model to ask",
                    fix="set 'needs_parent: true' in detector.yaml; a base has no parent",
                )
            return open_model, digest

        def array(
            kind: str,
            conversations: Sequence[Conversation],
            parameters: dict[str, Any],
            compute: Callable[[Model, list[Conversation]], NDArray[Any]],
            which: str = "organism",
        ) -> NDArray[Any]:
            open_model, digest = opened(which)
            unique, rows = _canonical(conversations)
            key = digest_of([kind, digest, parameters, unique])
            started = time.perf_counter()
            found = store.read_arrays(kind, key)
            if found is None:
                model = open_model()
                before = model.meter.forward_tokens
                values = compute(model, unique)
                tokens = model.meter.forward_tokens - before
                found = {"values": values, "forward_tokens": np.array([tokens], dtype=np.int64)}
                store.write_arrays(kind, key, found)
            spent.queries += len(unique)
            spent.forward_tokens += int(found["forward_tokens"][0])
            spent.seconds += time.perf_counter() - started
            return found["values"][rows]

        def texts(
            conversations: Sequence[Conversation], settings: GenerationSettings
        ) -> list[str]:
            open_model, digest = opened("organism")
            unique, rows = _canonical(conversations)
            key = digest_of(["texts", digest, _settings(settings), unique])
            started = time.perf_counter()
            found = store.read_json("texts", key)
            if found is None:
                model = open_model()
                forward, generated = model.meter.forward_tokens, model.meter.generated_tokens
                replies = [reply.text for reply in model.generate(unique, settings)]
                found = {
                    "replies": replies,
                    "forward_tokens": model.meter.forward_tokens - forward,
                    "generated_tokens": model.meter.generated_tokens - generated,
                }
                store.write_json("texts", key, found)
            spent.queries += len(unique)
            spent.forward_tokens += found["forward_tokens"]
            spent.generated_tokens += found["generated_tokens"]
            spent.seconds += time.perf_counter() - started
            return [found["replies"][row] for row in rows]

        self.array, self.texts = array, texts
        self.offers: Callable[[str], bool] = lambda capability: capability in capabilities


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
