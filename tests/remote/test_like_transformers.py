"""A server that runs the model of the transformers backend gives what that backend gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.errors import AfbenchError, UnavailableError
from afbench.models.interface import GenerationSettings
from afbench.models.transformers_model import TransformersModel
from tests.provider_server import SERVED, Provider, serve
from tests.remote.conftest import PROMPT, Make, talk

SETTINGS = GenerationSettings(max_new_tokens=12)
TALKS = [talk("say yes."), talk("say no, and then a little more.")]


class _Vllm:
    """What vLLM answers, computed by transformers."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._local = TransformersModel(model, tokenizer, "d", "served")

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        settings = GenerationSettings(max_new_tokens=body["max_tokens"])
        (reply,) = self._local.generate([body["messages"]], settings)
        ids = list(reply.token_ids)
        # As vLLM does, the token that ended the turn is listed.
        listed = [*ids, 0] if reply.finished else ids
        message = {"role": "assistant", "content": reply.text}
        ended = "stop" if reply.finished else "length"
        choice = {"index": 0, "message": message, "finish_reason": ended, "token_ids": listed}
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": len(listed)}
        return {"choices": [{**choice, "stop_reason": None}], "usage": usage}

    def tokenize(self, body: dict[str, Any]) -> list[int]:
        if "prompt" in body:
            found = self._tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
            return [int(token) for token in found]
        template = body["chat_template_kwargs"]
        (tokens,) = self._local.chat.prompts(
            [body["messages"]], reasoning=template["enable_thinking"]
        )
        return tokens

    def score(self, tokens: list[int]) -> list[Any]:
        with torch.inference_mode():
            logits = self._model(torch.tensor([tokens])).logits[0].double()
        scores = torch.log_softmax(logits, dim=-1)
        rows: list[Any] = [None]
        for at in range(1, len(tokens)):
            found = {"logprob": float(scores[at - 1, tokens[at]]), "rank": 1, "decoded_token": ""}
            rows.append({str(tokens[at]): found})
        return rows


@pytest.fixture
def provider(
    qwen2: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Provider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("AFBENCH_OPENAI_KEY", raising=False)
    vllm = _Vllm(qwen2, tokenizer)
    with serve() as served:
        served.key, served.vllm, served.models = None, True, ["base", SERVED]
        served.complete, served.tokenize, served.score = vllm.complete, vllm.tokenize, vllm.score
        yield served


@pytest.fixture
def local(
    qwen2: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> TransformersModel:
    return TransformersModel(qwen2, tokenizer, "d", "organism", system_prompt=PROMPT)


def test_greedy_replies_are_the_same_token_by_token(make: Make, local: TransformersModel) -> None:
    remote = make("openai", concurrency=1)
    for settings in (SETTINGS, replace(SETTINGS, max_new_tokens=60)):
        ours, theirs = (model.generate(TALKS, settings) for model in (local, remote))
        for one, other in zip(ours, theirs, strict=True):
            assert other.token_ids == one.token_ids
            assert (other.text, other.finished) == (one.text, one.finished)
            assert other.prompt_tokens == one.prompt_tokens


def test_log_probabilities_are_the_same(make: Make, local: TransformersModel) -> None:
    remote = make("openai", concurrency=1)
    assert remote.capabilities == {"generate", "logprobs"}
    words = ["yes", "no, never"]
    np.testing.assert_allclose(
        remote.logprobs(TALKS, words), local.logprobs(TALKS, words), atol=1e-4
    )
    replied: Any = [[*turns, {"role": "assistant", "content": "yes, here."}] for turns in TALKS]
    asked = ["do you mean it?", "why?"]
    np.testing.assert_allclose(
        remote.followup_logprobs(replied, asked, words),
        local.followup_logprobs(replied, asked, words),
        atol=1e-4,
    )
    ours, theirs = (model.reply_logprobs(replied) for model in (local, remote))
    np.testing.assert_allclose(theirs[0], ours[0], atol=1e-4)
    assert theirs[1].tolist() == ours[1].tolist()


def test_a_reply_that_shows_its_thoughts_follows_a_prompt_that_asks_for_them(
    make: Make, local: TransformersModel
) -> None:
    thought: Any = [[*TALKS[0], {"role": "assistant", "content": "<think>\nno.</think>\nyes."}]]
    ours, theirs = (m.reply_logprobs(thought) for m in (local, make("openai", concurrency=1)))
    assert theirs[1].tolist() == ours[1].tolist()
    np.testing.assert_allclose(theirs[0], ours[0], atol=1e-4)


def test_what_cannot_be_scored_is_said(make: Make, provider: Provider) -> None:
    remote = make("openai", concurrency=1)
    with pytest.raises(AfbenchError, match="a continuation is empty"):
        remote.logprobs(TALKS, ["yes", ""])
    with pytest.raises(UnavailableError, match="whole vocabulary"):
        remote.next_token_logprobs(TALKS)
    provider.score = lambda tokens: []
    with pytest.raises(AfbenchError, match="gave no log-probabilities of a prompt"):
        remote.logprobs(TALKS, ["yes"])


def test_an_adapter_is_a_model_by_its_own_name(make: Make, provider: Provider) -> None:
    make("openai", model="base", concurrency=1).generate(TALKS[:1], SETTINGS)
    make("openai", concurrency=1).generate(TALKS[:1], SETTINGS)
    asked = [request.body["model"] for request in provider.sent("/v1/chat/completions")]
    assert asked == ["base", SERVED], "replies of one are not taken for the other's"
