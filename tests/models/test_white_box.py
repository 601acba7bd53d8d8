"""Reading single tokens and layers: equal to the plain forward pass, whatever the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models.extraction import find_blocks
from afbench.models.interface import POOLINGS
from afbench.models.transformers_model import TransformersModel

Conversations = list[list[Message]]


@pytest.fixture
def read(any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> TransformersModel:
    return TransformersModel(any_family, tokenizer, "d", "n", read_tokens=200)


def _logprobs(model: TransformersModel, tokens: list[int]) -> NDArray[np.float64]:
    """Log-probabilities [t, V] of one plain forward pass."""
    with torch.inference_mode():
        logits = model.module(torch.tensor([tokens])).logits[0]
    return np.asarray(torch.log_softmax(logits.double(), dim=-1))


def test_next_token_logprobs_are_those_of_the_plain_forward_pass(
    read: TransformersModel, questions: Conversations
) -> None:
    found = read.next_token_logprobs(questions)
    expected = [_logprobs(read, prompt)[-1] for prompt in read.chat.prompts(questions)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found.astype(float)).sum(axis=1), 1, atol=1e-5)


def test_reply_logprobs_are_the_sum_over_the_replys_tokens(
    read: TransformersModel, replied: Conversations
) -> None:
    empty: Message = {"role": "assistant", "content": ""}
    talks = [*replied, [*replied[0][:-1], empty]]
    sums, counts = read.reply_logprobs(talks)
    for row, (prompt, reply) in enumerate(read.chat.replies(talks)):
        steps = _logprobs(read, [*prompt, *reply])
        by_hand = sum(steps[len(prompt) - 1 + at, token] for at, token in enumerate(reply))
        np.testing.assert_allclose(sums[row], by_hand, atol=1e-3)
        assert counts[row] == len(reply)
    assert (sums[-1], counts[-1]) == (0.0, 0)
    assert [sums.dtype, counts.dtype] == ["float64", "int64"]


def test_a_reply_has_the_logprob_that_it_has_as_a_continuation(
    model: TransformersModel, replied: Conversations
) -> None:
    sums, _ = model.reply_logprobs(replied)
    for row, talk in enumerate(replied):
        as_continuation = model.logprobs([talk[:-1]], [talk[-1]["content"]])
        np.testing.assert_allclose(sums[row], as_continuation[0, 0], atol=1e-4)


def test_the_deepest_layer_of_the_lens_is_what_the_model_says(
    read: TransformersModel, questions: Conversations
) -> None:
    words = ["yes", "no", "i cannot"]
    found = read.layer_logprobs(questions, words, None)
    assert found.shape == (len(questions), read.n_layers + 1, len(words))
    first = [row[0] for row in read.chat.continuations(words)]
    expected = read.next_token_logprobs(questions)[:, first]
    np.testing.assert_allclose(found[:, -1], expected, atol=1e-4)
    assert not np.allclose(found[:, 0], expected, atol=0.1), "layers differ"


def test_layers_of_the_lens_come_in_the_order_asked_for(
    model: TransformersModel, questions: Conversations
) -> None:
    whole = model.layer_logprobs(questions, ["yes", "no"], None)
    some = model.layer_logprobs(questions, ["yes", "no"], [2, 0])
    np.testing.assert_allclose(some, whole[:, [2, 0]], atol=1e-5)


def test_token_activations_are_the_hidden_states_of_every_token(
    read: TransformersModel, replied: Conversations
) -> None:
    found = list(read.token_activations(replied, None))
    blocks = find_blocks(read.module, read.n_layers)
    for one, (prompt, reply) in zip(found, read.chat.replies(replied), strict=True):
        kept: list[torch.Tensor] = []
        hook = blocks[1].register_forward_hook(
            lambda _m, _a, out, kept=kept: kept.append(out if torch.is_tensor(out) else out[0])
        )
        with torch.inference_mode():
            read.module(torch.tensor([[*prompt, *reply]]))
        hook.remove()
        np.testing.assert_allclose(one.values[:, 2], np.asarray(kept[0][0]), atol=1e-5)
        assert one.values.shape == (len(prompt) + len(reply), read.n_layers + 1, read.width)
        assert one.reply_start == len(prompt)
        assert "".join(one.tokens[one.reply_start :]) == read.chat.tokenizer.decode(list(reply))


def test_pooled_activations_are_means_and_ends_of_the_tokens(
    model: TransformersModel, replied: Conversations
) -> None:
    pooled = model.activations(replied, None, POOLINGS)
    for row, one in enumerate(model.token_activations(replied, None)):
        before, after = one.values[: one.reply_start], one.values[one.reply_start :]
        expected = [before[-1], after.mean(axis=0), after[-1], one.values.mean(axis=0)]
        np.testing.assert_allclose(pooled[row], np.stack(expected), atol=1e-4)


def test_what_comes_of_a_conversation_does_not_depend_on_the_others(
    model: TransformersModel, replied: Conversations
) -> None:
    together = list(model.token_activations(replied, [1, 3]))
    [alone] = model.token_activations(replied[3:4], [1, 3])
    np.testing.assert_array_equal(alone.values, together[3].values)


def test_an_organisms_own_prompt_shows_in_no_token(
    model: TransformersModel, tokenizer: PreTrainedTokenizerFast, replied: Conversations
) -> None:
    secret = "whether someone is watching"
    told = TransformersModel(model.module, tokenizer, "d", "n", system_prompt=secret)
    for talk in (replied[0], replied[0][1:]):
        [bare], [own] = (list(one.token_activations([talk], [2])) for one in (model, told))
        text = "".join(own.tokens)
        assert secret not in text
        assert "please explain" in text
        assert own.tokens[own.reply_start :] == bare.tokens[bare.reply_start :]
        assert own.tokens == bare.tokens[-len(own.tokens) :]
        assert own.values.shape[0] == len(own.tokens)
        assert not np.allclose(own.values[-1], bare.values[-1]), "it was read all the same"


@pytest.mark.parametrize("method", ["next", "reply", "lens", "tokens"])
def test_meter_counts_tokens_without_padding(
    model: TransformersModel, questions: Conversations, replied: Conversations, method: str
) -> None:
    prompts = sum(map(len, model.chat.prompts(questions)))
    whole = sum(len(prompt) + len(reply) for prompt, reply in model.chat.replies(replied))
    if method == "next":
        model.next_token_logprobs(questions)
    elif method == "lens":
        model.layer_logprobs(questions, ["yes"], None)
    elif method == "reply":
        model.reply_logprobs(replied)
    else:
        list(model.token_activations(replied, [1]))
    expected = prompts if method in ("next", "lens") else whole
    assert (model.meter.forward_tokens, model.meter.calls) == (expected, 1)


def test_no_conversation_is_no_answer(model: TransformersModel) -> None:
    assert model.next_token_logprobs([]).shape == (0, len(model.chat.tokenizer))
    assert model.layer_logprobs([], ["yes"], [1]).shape == (0, 1, 1)
    assert [part.shape for part in model.reply_logprobs([])] == [(0,), (0,)]
    assert list(model.token_activations([], None)) == []


def test_a_conversation_that_ends_with_the_wrong_role_is_refused(
    model: TransformersModel, questions: Conversations, replied: Conversations
) -> None:
    with pytest.raises(AfbenchError, match="must end with a user message"):
        model.next_token_logprobs(replied)
    with pytest.raises(AfbenchError, match="must end with a user message"):
        model.layer_logprobs(replied, ["yes"], None)
    with pytest.raises(AfbenchError, match="must end with the assistant's reply"):
        model.reply_logprobs(questions)
    with pytest.raises(AfbenchError, match="must end with the assistant's reply"):
        list(model.token_activations(questions, None))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma2", {"head_dim": 16, "final_logit_softcapping": 5.0}),
        ("granite", {"logits_scaling": 3.0}),
        ("cohere", {"logit_scale": 0.25}),
    ],
)
def test_the_lens_does_to_logits_what_the_family_does(
    tokenizer: PreTrainedTokenizerFast, questions: Conversations, kind: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64,
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3, **options,
    )  # fmt: skip
    module = AutoModelForCausalLM.from_config(config).eval()
    model = TransformersModel(module, tokenizer, "d", "n")
    words = ["yes", "no"]
    first = [row[0] for row in model.chat.continuations(words)]
    found = model.layer_logprobs(questions[:3], words, [3])[:, 0]
    expected = model.next_token_logprobs(questions[:3])[:, first]
    np.testing.assert_allclose(found, expected, atol=1e-4)
