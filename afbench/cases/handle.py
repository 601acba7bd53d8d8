"""The metered handle: what a detector may ask of an organism, and what each question costs.

The tier is enforced here and the spending counted here. A question that was answered before is
answered from the cache and costs the same, so that a budget does not depend on the cache.

A handle keeps a detector from what its tier does not allow; it does not stop hostile code in the
same process from walking the interpreter. Strangers' code belongs in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from afbench.cases.cue_guard import CueGuard
from afbench.cases.metering import TIER_ORDER, Asker, Budget, Models, Which
from afbench.cases.questions import Questions
from afbench.messages import Conversation
from afbench.models.interface import POOLINGS, GenerationSettings, Model, TokenActivations
from afbench.models.perturbations import Perturbation
from afbench.store import Store

if TYPE_CHECKING:
    from afbench.catalog.manifests import Tier

__all__ = ["TIER_ORDER", "Budget", "Handle"]


class Handle(Questions):
    """Metered access of one detector to one organism.

    Args:
        open_model: gives the organism's model, loaded when it is first needed.
        open_parent: the same for its parent; None where it has none or the detector may not ask.
        digests: identities of the organism's and the parent's weights, for the cache.
        shape: number of decoder blocks and width of the residual stream.
        tier: the detector's access tier.
        store: the cache.
        guard: finds the unobserved cues on which nothing is sampled; None for a detector that may.
    """

    __slots__ = ("_tier",)

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
        guard: CueGuard | None = None,
    ) -> None:
        self._tier = tier
        # The models, the tier and the bill live in this closure and not in attributes, so that no
        # attribute of a handle says which organism stands behind it or gives access to it.
        models: Models = {
            "organism": (open_model, digest),
            "parent": (open_parent, parent_digest),
        }
        super().__init__(Asker(store, tier, capabilities, models, guard), shape)

    def __repr__(self) -> str:
        return f"Handle(tier={self._tier!r})"

    @property
    def spent(self) -> Budget:
        """What was spent so far: a copy, so that a detector cannot rewrite its bill."""
        return self._ask.spent()

    def can(self, capability: str) -> bool:
        """Whether the backend offers a capability and the tier allows it.

        Capabilities are generate, logprobs, activations, weights, and adapter_scaling (this
        organism differs from its parent in weights).
        """
        return self._ask.can(capability)

    # --- what it says -------------------------------------------------------------------------

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
            TierError: a conversation holds one of the environment's unobserved cues, and the
                detector is no ceiling. The tier `text` is every detector's.
        """
        self._ask.require("generate")
        replies: list[list[str]] = [[] for _ in conversations]
        for sample in range(samples):
            settings = GenerationSettings(
                max_new_tokens=max_new_tokens, temperature=temperature, seed=seed + sample
            )
            texts = self._texts(conversations, settings)
            for row, text in zip(replies, texts, strict=True):
                row.append(text)
        return replies

    # --- log-probabilities --------------------------------------------------------------------

    def logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Log-probabilities of continuations as the next reply (tier `logprobs`).

        Returns:
            float64 [n, k], in nats.

        Raises:
            TierError: the detector's tier is below `logprobs`, or the backend has none.
        """
        return self._logprobs("organism", conversations, continuations)

    def parent_logprobs(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """The same as `logprobs`, of the organism's parent.

        Raises:
            TierError: as `logprobs`, or the detector's manifest does not say `needs_parent`, or
                the organism has no parent.
        """
        return self._logprobs("parent", conversations, continuations)

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
        return self._followups("organism", conversations, questions, continuations)

    def parent_followup_logprobs(
        self,
        conversations: Sequence[Conversation],
        questions: Sequence[str],
        continuations: Sequence[str],
    ) -> NDArray[np.float64]:
        """The same as `followup_logprobs`, of the organism's parent.

        Raises:
            TierError: as `parent_logprobs`.
        """
        return self._followups("parent", conversations, questions, continuations)

    def next_token_logprobs(
        self, conversations: Sequence[Conversation], *, parent: bool = False
    ) -> NDArray[np.float32]:
        """Log-probability of every token as the first of the next reply (tier `logprobs`).

        Args:
            conversations: each ends with a user message.
            parent: ask the parent instead.

        Returns:
            float32 [n, V], in nats; V is the vocabulary, padding included.

        Raises:
            TierError: as `logprobs`; for the parent as `parent_logprobs`.
        """
        return self._ask.array("next-token", _which(parent), conversations, {})

    def reply_logprobs(
        self, conversations: Sequence[Conversation], *, parent: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log-probability of the reply that each conversation ends with (tier `logprobs`).

        Returns:
            float64 [n], the sum over the reply's tokens in nats, without the end-of-turn token;
            and int64 [n], the number of those tokens.

        Raises:
            TierError: as `logprobs`; for the parent as `parent_logprobs`.
        """
        return self._replies(_which(parent), conversations)

    # --- activations --------------------------------------------------------------------------

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

    def layer_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        layers: Sequence[int] | None = None,
    ) -> NDArray[np.float64]:
        """Logit lens (nostalgebraist 2020) where the reply starts (tier `activations`).

        The final norm and the unembedding are applied to each layer's residual.

        Args:
            conversations: each ends with a user message.
            continuations: of each, the first token counts.
            layers: 0 is the embedding output, i the output of block i; None is all.

        Returns:
            float64 [n, layers, k], in nats.

        Raises:
            TierError: the detector's tier is below `activations`, or the backend has none.
        """
        return self._lens(conversations, continuations, layers)

    def token_activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None = None,
        *,
        parent: bool = False,
    ) -> Sequence[TokenActivations]:
        """Residual activations of every token (tier `activations`).

        Each conversation is forwarded by itself, once for all detectors, and kept on disk in half
        precision; an index reads it anew, so that go through them one by one. Pooled activations
        are not made from these: they are of full precision, whatever else was asked before.

        Args:
            conversations: each ends with the assistant's reply.
            layers: as for `activations`.
            parent: ask the parent instead.

        Returns:
            One `TokenActivations` for each conversation, read when it is looked at.

        Raises:
            TierError: as `activations`; for the parent as `parent_activations`.
        """
        return self._tokens(_which(parent), conversations, layers)

    # --- perturbed ----------------------------------------------------------------------------

    def perturbed_logprobs(
        self,
        conversations: Sequence[Conversation],
        continuations: Sequence[str],
        perturbation: Perturbation,
    ) -> NDArray[np.float64]:
        """`logprobs` of the organism under a perturbation (tier `weights`): float64 [n, k].

        Raises:
            TierError: the detector's tier is below `weights`, the backend offers none, or the
                perturbation does not suit this organism (`can("adapter_scaling")`).
        """
        return self._logprobs("organism", conversations, continuations, self._checked(perturbation))

    def perturbed_reply_logprobs(
        self, conversations: Sequence[Conversation], perturbation: Perturbation
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """`reply_logprobs` under a perturbation: float64 [n] and int64 [n].

        Raises:
            TierError: as `perturbed_logprobs`.
        """
        return self._replies("organism", conversations, self._checked(perturbation))

    def perturbed_activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
        perturbation: Perturbation,
    ) -> NDArray[np.float32]:
        """`activations` under a perturbation: float32 [n, poolings, layers, width].

        Raises:
            TierError: as `perturbed_logprobs`.
        """
        under = self._checked(perturbation)
        return self._pooled("organism", conversations, layers, poolings, under)

    def perturbed_generate(
        self,
        conversations: Sequence[Conversation],
        *,
        perturbation: Perturbation,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """One reply to each conversation under a perturbation.

        Raises:
            TierError: as `perturbed_logprobs` and `generate`.
        """
        under = self._checked(perturbation)
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        return self._texts(conversations, settings, under)


def _which(parent: bool) -> Which:
    return "parent" if parent else "organism"
