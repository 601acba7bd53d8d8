from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models import scoring
from afbench.models.transformers_model import TransformersModel

Conversations = list[list[Message]]
WORDS = ["yes", "no", "i cannot help with that", "sure"]
FOLLOW_UPS = ["are you helpful?", "are you being watched by someone?", "why?"]


def _by_hand(model: TransformersModel, conversation: list[Message], word: str) -> float:
    prompt = model.chat.prompts([conversation])[0]
    tail = model.chat.continuations([word])[0]
    with torch.inference_mode():
        logits = model.module(torch.tensor([[*prompt, *tail]])).logits[0]
    steps = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1)
    return float(sum(steps[at, token] for at, token in enumerate(tail)))


def _plain(model: TransformersModel, replied: Conversations) -> np.ndarray:
    columns = []
    for question in FOLLOW_UPS:
        turn: Message = {"role": "user", "content": question}
        columns.append(model.logprobs([[*each, turn] for each in replied], WORDS))
    return np.stack(columns, axis=1)


def test_logprobs_are_those_of_the_plain_forward_pass(
    any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: Conversations
) -> None:
    model = TransformersModel(any_family, tokenizer, "d", "n", read_tokens=150)
    assert {len(row) for row in model.chat.continuations(WORDS)} > {1}
    scores = model.logprobs(questions, WORDS)
    expected = [[_by_hand(model, each, word) for word in WORDS] for each in questions]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert scores.dtype == np.float64


def test_followups_with_a_shared_prefix_equal_the_plain_path(
    any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, replied: Conversations
) -> None:
    model = TransformersModel(any_family, tokenizer, "d", "n", read_tokens=300)
    shared = model.followup_logprobs(replied, FOLLOW_UPS, WORDS)
    spent = model.meter.forward_tokens
    assert shared.shape == (len(replied), len(FOLLOW_UPS), len(WORDS))
    np.testing.assert_allclose(shared, _plain(model, replied), atol=1e-4)
    assert spent < 0.6 * (model.meter.forward_tokens - spent)


def test_a_recurrent_model_falls_back_to_whole_forward_passes(
    model: TransformersModel, replied: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = model.followup_logprobs(replied, FOLLOW_UPS, WORDS)
    monkeypatch.setattr(scoring, "can_share_prefix", lambda _model: False)
    whole = model.followup_logprobs(replied, FOLLOW_UPS, WORDS)
    np.testing.assert_allclose(shared, whole, atol=1e-4)


def test_prompts_without_a_common_prefix_fall_back(
    model: TransformersModel, replied: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _plain(model, replied)
    cut = scoring.fork

    def nothing_shared(prompts: list[list[int]]) -> scoring.Forked:
        whole = cut(prompts)
        return scoring.Forked((), tuple((*whole.prefix, *tail) for tail in whole.tails))

    monkeypatch.setattr(scoring, "fork", nothing_shared)
    scores = model.followup_logprobs(replied, FOLLOW_UPS, WORDS)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_fork_leaves_every_prompt_a_token_of_its_own() -> None:
    assert scoring.fork([[1, 2, 3, 4], [1, 2, 5]]) == scoring.Forked((1, 2), ((3, 4), (5,)))
    assert scoring.fork([[1, 2], [1, 2]]) == scoring.Forked((1,), ((2,), (2,)))
    assert scoring.fork([[1, 2], [1, 2, 3]]) == scoring.Forked((1,), ((2,), (2, 3)))


def test_one_question_and_empty_inputs_keep_their_shapes(
    model: TransformersModel, replied: Conversations
) -> None:
    assert model.followup_logprobs(replied[:2], ["why?"], ["yes"]).shape == (2, 1, 1)
    assert model.followup_logprobs([], FOLLOW_UPS, WORDS).shape == (0, 3, 4)
    assert model.followup_logprobs(replied[:2], [], WORDS).shape == (2, 0, 4)
    assert model.logprobs([], WORDS).shape == (0, 4)


def test_single_token_continuations_read_each_prompt_once(
    model: TransformersModel, questions: Conversations
) -> None:
    singles = [w for w in ("a", "b", "c") if len(model.chat.continuations([w])[0]) == 1]
    model.logprobs(questions, singles)
    assert model.meter.forward_tokens == sum(map(len, model.chat.prompts(questions)))


def test_an_empty_continuation_and_an_unanswered_conversation_are_refused(
    model: TransformersModel, questions: Conversations
) -> None:
    with pytest.raises(AfbenchError, match="continuation is empty"):
        model.logprobs(questions, [""])
    with pytest.raises(AfbenchError, match="ends with a reply"):
        model.followup_logprobs(questions, FOLLOW_UPS, WORDS)
