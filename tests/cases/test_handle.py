"""The metered handle: what each tier may ask, what it costs, and that order changes nothing."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from afbench.cases.handle import TIER_ORDER, Budget, Handle
from afbench.catalog.manifests import Tier
from afbench.contract.fake_model import FakeModel
from afbench.errors import AfbenchError, TierError
from afbench.messages import Conversation, Message
from afbench.models.interface import (
    POOLINGS,
    Generation,
    GenerationSettings,
    Progress,
    TokenActivations,
)
from afbench.store import Store
from tests.fakes import handle_on

ASK: list[list[Message]] = [
    [{"role": "user", "content": f"Please copy file {index}."}] for index in range(5)
]
TALKS: list[list[Message]] = [[*talk, {"role": "assistant", "content": "Sure."}] for talk in ASK]

METHODS: dict[str, Callable[[Handle], Any]] = {
    "generate": lambda handle: handle.generate(ASK, max_new_tokens=4),
    "logprobs": lambda handle: handle.logprobs(ASK, ["Yes", "No"]),
    "followup_logprobs": lambda handle: handle.followup_logprobs(TALKS, ["Why?"], ["Yes", "No"]),
    "activations": lambda handle: handle.activations(TALKS),
    "parent_activations": lambda handle: handle.parent_activations(TALKS),
    "parent_logprobs": lambda handle: handle.parent_logprobs(ASK, ["Yes", "No"]),
    "parent_followup_logprobs": lambda handle: handle.parent_followup_logprobs(
        TALKS, ["Why?"], ["Yes", "No"]
    ),
    "next_token_logprobs": lambda handle: handle.next_token_logprobs(ASK),
    "parent_next_token": lambda handle: handle.next_token_logprobs(ASK, parent=True),
    "reply_logprobs": lambda handle: np.stack(handle.reply_logprobs(TALKS), axis=1),
    "parent_reply": lambda handle: np.stack(handle.reply_logprobs(TALKS, parent=True), axis=1),
    "layer_logprobs": lambda handle: handle.layer_logprobs(ASK, ["Yes", "No"]),
    "token_activations": lambda handle: _values(handle.token_activations(TALKS)),
    "parent_tokens": lambda handle: _values(handle.token_activations(TALKS, parent=True)),
}
NEEDS: dict[str, Tier] = {
    "generate": "text",
    "logprobs": "logprobs",
    "followup_logprobs": "logprobs",
    "activations": "activations",
    "parent_activations": "activations",
    "parent_logprobs": "logprobs",
    "parent_followup_logprobs": "logprobs",
    "next_token_logprobs": "logprobs",
    "parent_next_token": "logprobs",
    "reply_logprobs": "logprobs",
    "parent_reply": "logprobs",
    "layer_logprobs": "activations",
    "token_activations": "activations",
    "parent_tokens": "activations",
}
# Forwarded, and filed, one conversation at a time.
ONE_BY_ONE = ("token_activations", "parent_tokens")


def _values(stream: Sequence[TokenActivations]) -> Any:
    return np.stack([one.values for one in stream])


def _calls(method: str) -> int:
    return len(ASK) if method in ONE_BY_ONE else 1


class BatchModel(FakeModel):
    """Answers hang on the whole batch and its order, as those of a real model do a little."""

    def _batch(self, conversations: Sequence[Conversation]) -> int:
        texts = [turn["content"] for talk in conversations for turn in talk]
        return int(hashlib.sha256("|".join(texts).encode()).hexdigest()[:8], 16)

    def generate(
        self,
        conversations: Sequence[Conversation],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[Generation]:
        batch = self._batch(conversations)
        replies = super().generate(conversations, settings, progress)
        return [
            Generation(f"{batch}-{index} {r.text}", "", r.token_ids, r.finished, r.prompt_tokens)
            for index, r in enumerate(replies)
        ]

    def logprobs(self, conversations: Sequence[Conversation], continuations: Sequence[str]) -> Any:
        rng = np.random.default_rng(self._batch(conversations))
        values = super().logprobs(conversations, continuations)
        return values - rng.random(values.shape)

    def activations(
        self,
        conversations: Sequence[Conversation],
        layers: Sequence[int] | None,
        poolings: Sequence[str],
    ) -> Any:
        values = super().activations(conversations, layers, poolings)
        return values + np.float32(self._batch(conversations) % 1000)


# Tiers


def test_there_is_a_case_for_every_tier() -> None:
    assert get_args(Tier) == TIER_ORDER


@pytest.mark.parametrize("tier", TIER_ORDER)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_answers_at_its_tier_and_above_and_is_refused_below(
    tmp_path: Path, method: str, tier: Tier
) -> None:
    handle = handle_on(FakeModel(0), tier, Store(tmp_path), parent=FakeModel(1))
    if TIER_ORDER.index(tier) >= TIER_ORDER.index(NEEDS[method]):
        METHODS[method](handle)
        assert handle.spent.queries == len(ASK)
        return
    with pytest.raises(TierError, match=f"needs tier '{NEEDS[method]}'.*declares '{tier}'"):
        METHODS[method](handle)
    assert handle.spent == Budget(), "what is refused costs nothing"


@pytest.mark.parametrize("method", METHODS)
def test_what_another_detector_paid_for_is_not_given_to_a_lower_tier(
    tmp_path: Path, method: str
) -> None:
    store = Store(tmp_path)
    METHODS[method](handle_on(FakeModel(0), "weights", store, parent=FakeModel(1)))
    below = TIER_ORDER[: TIER_ORDER.index(NEEDS[method])]
    for tier in below:
        with pytest.raises(TierError):
            METHODS[method](handle_on(FakeModel(0), tier, store, parent=FakeModel(1)))


@pytest.mark.parametrize("tier", TIER_ORDER)
def test_can_says_beforehand_what_the_methods_will_do(tmp_path: Path, tier: Tier) -> None:
    handle = handle_on(FakeModel(0), tier, Store(tmp_path))
    for method in ("generate", "logprobs", "activations"):
        if handle.can(method):
            METHODS[method](handle)
        else:
            with pytest.raises(TierError):
                METHODS[method](handle)
    assert not handle.can("weights"), "this backend does not offer them"
    assert not handle.can("telepathy")


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("parent")])
def test_a_backend_that_lacks_a_capability_is_refused_as_such(tmp_path: Path, method: str) -> None:
    handle = handle_on(FakeModel(0), "weights", Store(tmp_path), capabilities=frozenset())
    with pytest.raises(TierError, match="backend offers no"):
        METHODS[method](handle)
    assert not handle.can("generate")


def test_setting_the_tier_from_outside_opens_nothing(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0), "text", Store(tmp_path), parent=FakeModel(1))
    handle._tier = "weights"
    for method in [name for name in METHODS if name != "generate"]:
        with pytest.raises(TierError):
            METHODS[method](handle)
    assert not handle.can("activations")


def test_the_parent_answers_only_where_the_detector_may_ask_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    without = handle_on(FakeModel(0), "weights", store)
    for method in [name for name in METHODS if name.startswith("parent")]:
        with pytest.raises(TierError, match="needs_parent"):
            METHODS[method](without)
    organism, parent = FakeModel(0), FakeModel(1)
    handle = handle_on(organism, "activations", store, parent=parent)
    values = handle.parent_activations(TALKS)
    np.testing.assert_array_equal(values, parent.activations(TALKS, None, POOLINGS))
    assert organism.meter.calls == 0
    assert not np.array_equal(values, handle.activations(TALKS))


# Metering


def _spent(handle: Handle) -> dict[str, float]:
    return {key: value for key, value in asdict(handle.spent).items() if key != "seconds"}


@pytest.mark.parametrize("from_disk", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_cached_answer_is_the_same_and_costs_the_same(
    tmp_path: Path, method: str, from_disk: bool
) -> None:
    store = Store(tmp_path)
    models = [FakeModel(0), FakeModel(1)]
    first = handle_on(models[0], "weights", store, parent=models[1])
    answer = METHODS[method](first)
    calls = sum(model.meter.calls for model in models)
    assert calls == _calls(method)
    store = Store(tmp_path) if from_disk else store
    second = handle_on(models[0], "weights", store, parent=models[1])
    np.testing.assert_array_equal(METHODS[method](second), answer)
    assert sum(model.meter.calls for model in models) == calls, "the cache answered"
    assert _spent(second) == _spent(first)
    assert first.spent.forward_tokens > 0
    assert first.spent.queries == len(ASK)
    assert (first.spent.generated_tokens > 0) == (method == "generate")


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_cache_entry_is_computed_again(tmp_path: Path, method: str) -> None:
    before = handle_on(FakeModel(0), "weights", Store(tmp_path), parent=FakeModel(1))
    answer = METHODS[method](before)
    entries = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(entries) == _calls(method)
    entry = entries[0]
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(bytes(content))
    model, parent = FakeModel(0), FakeModel(1)
    again = handle_on(model, "weights", Store(tmp_path), parent=parent)
    np.testing.assert_array_equal(METHODS[method](again), answer)
    assert model.meter.calls + parent.meter.calls == 1


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_a_detector_edits_is_not_the_one_that_the_next_gets(
    tmp_path: Path, method: str
) -> None:
    store = Store(tmp_path)
    handle = handle_on(FakeModel(0), "weights", store, parent=FakeModel(1))
    expected = METHODS[method](handle_on(FakeModel(0), "weights", Store(tmp_path / "other"),
                                         parent=FakeModel(1)))  # fmt: skip
    for _ in range(2):  # computed, then from the cache
        answer = METHODS[method](handle)
        np.testing.assert_array_equal(answer, expected)
        answer[0] = answer[1]
    again = handle_on(FakeModel(0), "weights", store, parent=FakeModel(1))
    np.testing.assert_array_equal(METHODS[method](again), expected)


def test_spending_adds_up_over_questions(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0), "weights", Store(tmp_path))
    handle.logprobs(ASK[:2], ["Yes"])
    handle.logprobs(ASK[:2], ["Yes"])
    assert handle.spent.queries == 4, "asking twice costs twice"
    assert handle.spent.forward_tokens == 2 * 2 * 4
    handle.generate(ASK[:2], max_new_tokens=1, temperature=1.0, samples=3)
    assert handle.spent.queries == 4 + 2 * 3
    assert handle.spent.generated_tokens == 2 * 3


def test_the_same_conversation_given_twice_in_one_question_is_asked_once(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0), "weights", Store(tmp_path))
    values = handle.logprobs([ASK[0], ASK[1], ASK[0]], ["Yes", "No"])
    assert handle.spent.queries == 2
    np.testing.assert_array_equal(values[0], values[2])
    assert not np.array_equal(values[0], values[1])


def test_a_detector_cannot_rewrite_its_bill(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0), "weights", Store(tmp_path))
    handle.logprobs(ASK, ["Yes"])
    handle.spent.queries = 0
    assert handle.spent.queries == len(ASK)
    with pytest.raises(AttributeError):
        handle.spent = Budget()  # type: ignore[misc]


def test_budgets_are_added_field_by_field() -> None:
    total = Budget(1, 2, 3, 4.0)
    total.add(Budget(10, 20, 30, 40.0))
    assert total == Budget(11, 22, 33, 44.0)


def test_greedy_answers_do_not_hang_on_the_seed_and_sampled_ones_do(tmp_path: Path) -> None:
    model = FakeModel(0)
    handle = handle_on(model, "text", Store(tmp_path))
    greedy = [handle.generate(ASK, max_new_tokens=9, seed=seed) for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    assert model.meter.calls == 1, "one cached answer serves every seed"
    sampled = [
        handle.generate(ASK, max_new_tokens=9, temperature=1.0, seed=seed) for seed in (0, 9)
    ]
    assert sampled[0] != sampled[1]
    several = handle.generate(ASK, max_new_tokens=9, temperature=1.0, samples=10)
    assert [row[0] for row in several] == [row[0] for row in sampled[0]]
    assert [row[9] for row in several] == [row[0] for row in sampled[1]]
    assert [len(row) for row in several] == [10] * len(ASK)


# Order


@pytest.mark.parametrize("method", METHODS)
def test_answers_do_not_depend_on_the_order_of_the_conversations(
    tmp_path: Path, method: str
) -> None:
    ask: dict[str, Callable[[Handle, list[list[Message]]], Any]] = {
        "generate": lambda h, talks: h.generate(talks, max_new_tokens=4),
        "logprobs": lambda h, talks: h.logprobs(talks, ["Yes", "No"]),
        "followup_logprobs": lambda h, talks: h.followup_logprobs(talks, ["Why?"], ["Yes", "No"]),
        "activations": lambda h, talks: h.activations(talks),
        "parent_activations": lambda h, talks: h.parent_activations(talks),
        "parent_logprobs": lambda h, talks: h.parent_logprobs(talks, ["Yes", "No"]),
        "parent_followup_logprobs": lambda h, talks: h.parent_followup_logprobs(
            talks, ["Why?"], ["Yes", "No"]
        ),
        "next_token_logprobs": lambda h, talks: h.next_token_logprobs(talks),
        "parent_next_token": lambda h, talks: h.next_token_logprobs(talks, parent=True),
        "reply_logprobs": lambda h, talks: np.stack(h.reply_logprobs(talks), axis=1),
        "parent_reply": lambda h, talks: np.stack(h.reply_logprobs(talks, parent=True), axis=1),
        "layer_logprobs": lambda h, talks: h.layer_logprobs(talks, ["Yes", "No"]),
        "token_activations": lambda h, talks: _values(h.token_activations(talks)),
        "parent_tokens": lambda h, talks: _values(h.token_activations(talks, parent=True)),
    }
    order = list(range(len(TALKS)))
    random.Random(1).shuffle(order)
    answers = []
    for index, talks in enumerate((TALKS, [TALKS[at] for at in order])):
        model = BatchModel(0)
        # A cache of its own: the model itself must be asked in one order.
        handle = handle_on(model, "weights", Store(tmp_path / str(index)), parent=BatchModel(1))
        answers.append(ask[method](handle, talks))
    for place, at in enumerate(order):
        np.testing.assert_array_equal(answers[1][place], answers[0][at])


# Activations


def _handle(folder: Path, model: FakeModel | None = None) -> tuple[Handle, FakeModel]:
    model = model or FakeModel(0)
    return handle_on(model, "activations", Store(folder)), model


def test_layers_and_poolings_come_in_the_order_asked_for(tmp_path: Path) -> None:
    handle, model = _handle(tmp_path)
    whole = model.activations(TALKS, None, POOLINGS)
    assert whole.shape == (5, 4, 4, 8)
    found = handle.activations(TALKS, [3, 0, 3], ["all_mean", "prompt_last"])
    expected = whole[:, [POOLINGS.index("all_mean"), POOLINGS.index("prompt_last")]][
        :, :, [3, 0, 3]
    ]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_one_forward_serves_every_subset_of_layers_and_poolings(tmp_path: Path) -> None:
    handle, model = _handle(tmp_path)
    whole = handle.activations(TALKS)
    assert model.meter.calls == 1
    for layers, poolings in (([2], ["response_mean"]), (None, ["all_mean"]), ([0, 1], POOLINGS)):
        handle.activations(TALKS, layers, poolings)
    subset = handle.activations(TALKS, [1, 2], ["prompt_last"])
    assert model.meter.calls == 1
    np.testing.assert_array_equal(subset, whole[:, [0]][:, :, [1, 2]])
    assert handle.spent.queries == 5 * len(TALKS), "and each question is paid for"


def test_a_model_too_large_to_keep_whole_keeps_only_the_layers_asked_for(tmp_path: Path) -> None:
    asked: list[Any] = []

    class Large(FakeModel):
        def activations(
            self,
            conversations: Sequence[Conversation],
            layers: Sequence[int] | None,
            poolings: Sequence[str],
        ) -> Any:
            asked.append((layers, tuple(poolings)))
            return super().activations(conversations, layers, poolings)

    handle, _ = _handle(tmp_path, Large(0, n_layers=15, width=2048))
    found = handle.activations(TALKS[:1], np.array([9, 3]), ["all_mean", "all_mean"])
    assert asked == [([3, 9], ("all_mean",))]
    expected = FakeModel(0, n_layers=15, width=2048).activations(TALKS[:1], [9, 3], ["all_mean"])
    np.testing.assert_array_equal(found, np.concatenate([expected, expected], axis=1))


def test_layers_of_the_lens_come_in_the_order_asked_for_from_one_forward(tmp_path: Path) -> None:
    handle, model = _handle(tmp_path)
    whole = handle.layer_logprobs(ASK, ["Yes", "No"])
    np.testing.assert_array_equal(whole, FakeModel(0).layer_logprobs(ASK, ["Yes", "No"], None))
    some = handle.layer_logprobs(ASK, ["Yes", "No"], [-1, 0])
    np.testing.assert_array_equal(some, whole[:, [3, 0]])
    assert model.meter.calls == 1


def test_the_parent_answers_as_itself(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0), "weights", Store(tmp_path), parent=FakeModel(1))
    parent = handle_on(FakeModel(1), "weights", Store(tmp_path / "other"))
    pairs = {
        "parent_logprobs": "logprobs", "parent_followup_logprobs": "followup_logprobs",
        "parent_next_token": "next_token_logprobs", "parent_reply": "reply_logprobs",
        "parent_tokens": "token_activations",
    }  # fmt: skip
    for method, own in pairs.items():
        found = METHODS[method](handle)
        np.testing.assert_array_equal(found, METHODS[own](parent))
        assert not np.array_equal(found, METHODS[own](handle))


def test_a_negative_layer_counts_from_the_end(tmp_path: Path) -> None:
    handle, _ = _handle(tmp_path)
    np.testing.assert_array_equal(
        handle.activations(TALKS, [-1, -4]), handle.activations(TALKS, [handle.n_layers, 0])
    )


@pytest.mark.parametrize("layer", [4, -5, 99])
def test_a_layer_that_is_not_there_is_refused(tmp_path: Path, layer: int) -> None:
    handle, model = _handle(tmp_path)
    with pytest.raises(AfbenchError, match=f"no layer {layer}; layers run from 0 to 3"):
        handle.activations(TALKS, [layer])
    assert model.meter.calls == 0


def test_an_unknown_pooling_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    handle, model = _handle(tmp_path)
    with pytest.raises(AfbenchError, match="no pooling 'max'; known: prompt_last"):
        handle.activations(TALKS, poolings=["all_mean", "max"])
    assert model.meter.calls == 0


def test_shape_is_known_without_opening_the_model(tmp_path: Path) -> None:
    def open_model() -> FakeModel:
        raise AssertionError("opened")

    handle = Handle(
        open_model,
        digest="sha256:x",
        tier="activations",
        store=Store(tmp_path),
        shape=(6, 128),
        capabilities=FakeModel(0).capabilities,
    )
    assert (handle.n_layers, handle.width) == (6, 128)
    assert handle.can("activations")


def test_no_conversation_is_no_answer_and_no_cost(tmp_path: Path) -> None:
    handle, _ = _handle(tmp_path)
    assert handle.activations([]).shape == (0, 4, 4, 8)
    assert handle.generate([], max_new_tokens=3) == []
    assert handle.spent.queries == 0


def test_two_organisms_never_share_an_answer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = (handle_on(FakeModel(seed), "activations", store) for seed in (0, 1))
    assert not np.array_equal(one.activations(TALKS), other.activations(TALKS))
    assert not np.array_equal(one.logprobs(ASK, ["Yes"]), other.logprobs(ASK, ["Yes"]))
