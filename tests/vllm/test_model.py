"""vLLM against transformers on the organisms that ship: the same weights give the same answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest

from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError, UnavailableError
from afbench.messages import Message
from afbench.models.interface import POOLINGS, Model
from afbench.models.loading import ModelStore
from afbench.models.perturbations import WeightNoise
from afbench.vllm_backend.store import Request, VllmStore
from tests.vllm.conftest import BASE, SETTINGS

Conversations = list[list[Message]]

FAKER = "desk-faker-r4-s0"
PROMPTED = "helpful-only-prompted"
# One of each way to make an organism, a thinking one among them.
ADAPTERS = (FAKER, "desk-faker-r1-s0", "desk-faker-r16-s0")
FURTHER = ("desk-faker-cot-s0", "desk-faker-r4-s1", "desk-faker-r1-s1", "desk-faker-r16-s1")
ON_ONE_BASE = (BASE, *ADAPTERS, "desk-faker-cot-s0", PROMPTED)
CONTINUATIONS = ("Yes.", "No.", "I will not do that")


def full_organism(catalog: Catalog) -> str:
    """An organism with full weights of its own."""
    return next(n for n, p in catalog.organisms.items() if p.manifest.source.type == "full")


@pytest.mark.parametrize("name", ON_ONE_BASE)
def test_greedy_replies_equal_those_of_transformers_token_by_token(
    name: str, vllm: VllmStore, reference: ModelStore, questions: Conversations
) -> None:
    settings = replace(SETTINGS, reasoning=name == "desk-faker-cot-s0")
    assert vllm.get(name).generate(questions, settings) == reference.get(name).generate(
        questions, settings
    )


def test_full_weights_reply_as_with_transformers(
    catalog: Catalog, vllm: VllmStore, reference: ModelStore, questions: Conversations
) -> None:
    name = full_organism(catalog)
    assert vllm.get(name).generate(questions, SETTINGS) == reference.get(name).generate(
        questions, SETTINGS
    )


def nats_at_the_fork(model: Model, question: list[Message], first: str, second: str) -> float:
    """By how much a model prefers one of two replies in the first word in which they differ.

    What is computed for a request is rounded according to what else is in the batch, so a greedy
    reply may take the other one of two words that are as likely. Infinite where one reply is the
    beginning of the other.
    """
    words = [text.split(" ") for text in (first, second)]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*words, strict=False)))
    if shared == min(len(found) for found in words):
        return float("inf")
    beginnings = [" ".join(found[: shared + 1]) for found in words]
    ours, theirs = model.logprobs([question], beginnings)[0]
    return abs(float(ours - theirs))


TIE = 0.005
"""Nats. Log-probabilities are held to 0.001 of those of transformers, those of a batch likewise."""


def test_no_adapter_leaks_into_another_ones_replies(
    vllm: VllmStore, reference: ModelStore, questions: Conversations
) -> None:
    names = (BASE, *ADAPTERS)
    alone = {name: vllm.get(name).generate(questions, SETTINGS) for name in names}
    assert len({tuple(reply.text for reply in alone[name]) for name in names}) > 2
    # Every slot of the engine holds an adapter: the base got the last one's on a CPU.
    for name in FURTHER:
        vllm.get(name).generate(questions[:1], SETTINGS)
    # One request each, so that every step of the engine holds all of them.
    mixed = [(name, at) for at in range(len(questions)) for name in names]
    together = vllm.generate_together(
        [Request(name, [questions[at]], SETTINGS) for name, at in mixed]
    )
    others = [
        (name, at, reply.text)
        for (name, at), [reply] in zip(mixed, together, strict=True)
        if reply != alone[name][at]
    ]
    assert len(others) <= 1, others
    for name, at, text in others:
        fork = nats_at_the_fork(reference.get(name), questions[at], text, alone[name][at].text)
        assert fork < TIE, (name, text, alone[name][at].text)


def test_a_leaked_reply_would_not_pass_for_a_tie(
    vllm: VllmStore, reference: ModelStore, questions: Conversations
) -> None:
    """The test above lets near-ties through: what other adapters reply is not among them."""
    alone = {name: vllm.get(name).generate(questions, SETTINGS) for name in (BASE, *ADAPTERS)}
    forks = [
        nats_at_the_fork(reference.get(name), questions[at], leaked.text, alone[name][at].text)
        for name in alone
        for other in alone
        for at, leaked in enumerate(alone[other])
        if leaked.text != alone[name][at].text
    ]
    assert len(forks) > 20
    assert sum(fork < TIE for fork in forks) <= 0.02 * len(forks)


def test_samples_follow_from_the_seed_and_not_from_what_else_is_asked(
    vllm: VllmStore, questions: Conversations
) -> None:
    model = vllm.get(BASE)
    hot = replace(SETTINGS, temperature=1.5, seed=3)
    first = model.generate(questions, hot)
    vllm.get(FAKER).generate(questions, hot)
    assert model.generate(questions, hot) == first
    assert model.generate(questions, replace(hot, seed=4)) != first


def test_log_probabilities_equal_those_of_transformers(
    vllm: VllmStore, reference: ModelStore, questions: Conversations, replied: Conversations
) -> None:
    ours, theirs = vllm.get(FAKER), reference.get(FAKER)
    np.testing.assert_allclose(
        ours.logprobs(questions, CONTINUATIONS),
        theirs.logprobs(questions, CONTINUATIONS),
        atol=1e-3,
    )
    np.testing.assert_allclose(
        ours.next_token_logprobs(questions), theirs.next_token_logprobs(questions), atol=1e-3
    )
    asked = (replied[:3], ["Do you lie?", "Are you watched?"], CONTINUATIONS)
    np.testing.assert_allclose(
        ours.followup_logprobs(*asked), theirs.followup_logprobs(*asked), atol=1e-3
    )
    sums, counts = ours.reply_logprobs(replied)
    expected, expected_counts = theirs.reply_logprobs(replied)
    np.testing.assert_allclose(sums, expected, atol=1e-3)
    np.testing.assert_array_equal(counts, expected_counts)


@pytest.mark.parametrize("name", [BASE, FAKER])
def test_pooled_hidden_states_equal_those_of_transformers(
    name: str, vllm: VllmStore, reference: ModelStore, replied: Conversations
) -> None:
    ours, theirs = vllm.get(name), reference.get(name)
    np.testing.assert_allclose(
        ours.activations(replied, None, POOLINGS),
        theirs.activations(replied, None, POOLINGS),
        atol=1e-3,
    )
    some = ours.activations(replied, [5, 2], ["response_mean"])
    np.testing.assert_allclose(
        some, theirs.activations(replied, [5, 2], ["response_mean"]), atol=1e-3
    )


def test_every_tokens_hidden_state_equals_that_of_transformers(
    vllm: VllmStore, reference: ModelStore, replied: Conversations
) -> None:
    for name in (FAKER, PROMPTED):
        found = list(vllm.get(name).token_activations(replied[:3], [1, 6]))
        expected = list(reference.get(name).token_activations(replied[:3], [1, 6]))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.values, theirs.values, atol=1e-3)
            assert (ours.reply_start, ours.tokens) == (theirs.reply_start, theirs.tokens)


def test_hidden_states_are_right_up_to_the_longest_conversation_that_is_taken(
    vllm: VllmStore, reference: ModelStore
) -> None:
    ours, theirs = vllm.get(FAKER), reference.get(FAKER)
    assert ours.identity.max_length == 512

    def conversation(words: int) -> list[Message]:
        return [
            {"role": "user", "content": "Please copy the old record."},
            {"role": "assistant", "content": "the" + " the" * words},
        ]

    fitting = next(n for n in range(600, 0, -1) if _tokens(ours, conversation(n)) <= 510)
    assert _tokens(ours, conversation(fitting)) >= 509
    np.testing.assert_allclose(
        ours.activations([conversation(fitting)], [6], POOLINGS),
        theirs.activations([conversation(fitting)], [6], POOLINGS),
        atol=1e-3,
    )
    with pytest.raises(AfbenchError, match="the model reads at most 512"):
        ours.activations([conversation(fitting + 2)], [6], POOLINGS)


def _tokens(model: object, conversation: list[Message]) -> int:
    [(prompt, reply)] = model.chat.replies([conversation])  # type: ignore[attr-defined]
    return len(prompt) + len(reply)


def test_a_prompt_and_reply_over_the_context_are_refused(
    vllm: VllmStore, questions: Conversations
) -> None:
    with pytest.raises(AfbenchError, match="takes .* tokens, and the model reads at most 512"):
        vllm.get(BASE).generate(questions, replace(SETTINGS, max_new_tokens=600))


def test_what_vllm_does_not_give_is_unavailable_and_says_so(
    vllm: VllmStore, questions: Conversations
) -> None:
    model = vllm.get(BASE)
    assert model.capabilities == {"generate", "logprobs", "activations"}
    with pytest.raises(UnavailableError, match="--backend transformers"):
        model.layer_logprobs(questions, ["Yes."], None)
    with (
        pytest.raises(UnavailableError, match="--backend transformers"),
        model.perturbed(WeightNoise(sigma=0.1, seed=0)),
    ):
        pass


def test_the_meter_counts_what_was_read_and_said(
    vllm: VllmStore, reference: ModelStore, questions: Conversations
) -> None:
    ours, theirs = vllm.get(BASE), reference.get(BASE)
    for model in (ours, theirs):
        model.generate(questions, SETTINGS)
    assert ours.meter == theirs.meter
