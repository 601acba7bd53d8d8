from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models.generation import batch_seed, read_reply, split_reasoning
from afbench.models.interface import GenerationSettings
from afbench.models.transformers_model import TransformersModel

NewModel = Callable[..., PreTrainedModel]
Questions = list[list[Message]]
SAMPLED = GenerationSettings(max_new_tokens=12, temperature=1.0, seed=3, batch_tokens=200)


def test_greedy_replies_do_not_depend_on_the_batch(
    model: TransformersModel, questions: Questions
) -> None:
    settings = GenerationSettings(max_new_tokens=16, batch_tokens=400)
    assert 1 < len(model.plan_batches(questions, settings)) < len(questions)
    batched = model.generate(questions, settings)
    single = [model.generate([question], settings)[0] for question in questions]
    assert [reply.token_ids for reply in batched] == [reply.token_ids for reply in single]


def test_greedy_replies_are_the_argmax_of_the_plain_forward_pass(
    model: TransformersModel, questions: Questions
) -> None:
    settings = GenerationSettings(max_new_tokens=5)
    ids = model.chat.prompts(questions[:1])[0]
    reply = model.generate(questions[:1], settings)[0]
    for token in reply.token_ids:
        with torch.inference_mode():
            logits = model.module(torch.tensor([ids])).logits
        assert int(logits[0, -1].argmax()) == token
        ids = [*ids, token]


def test_same_seed_gives_same_samples_and_another_seed_others(
    model: TransformersModel, questions: Questions
) -> None:
    first = model.generate(questions, SAMPLED)
    torch.manual_seed(12345)
    assert model.generate(questions, SAMPLED) == first
    other = GenerationSettings(max_new_tokens=12, temperature=1.0, seed=4, batch_tokens=200)
    assert model.generate(questions, other) != first


def test_copies_of_a_conversation_get_samples_of_their_own(
    model: TransformersModel, questions: Questions
) -> None:
    replies = model.generate([questions[0]] * 4, SAMPLED)
    assert len({reply.token_ids for reply in replies}) > 1


def test_a_resumed_run_gives_the_same_replies(
    model: TransformersModel, questions: Questions
) -> None:
    whole = model.generate(questions, SAMPLED)
    plan = model.plan_batches(questions, SAMPLED)
    last = len(plan) - 1
    assert last > 0
    resumed = model.generate_batch(questions, SAMPLED, last)
    assert resumed == [whole[index] for index in plan[last]]


def test_sampling_leaves_the_global_random_state_alone(
    model: TransformersModel, questions: Questions
) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    model.generate(questions[:2], SAMPLED)
    assert torch.equal(torch.rand(3), expected)


def test_defaults_shipped_with_a_checkpoint_do_not_change_replies_nor_warn(
    new_qwen2: NewModel, tokenizer: PreTrainedTokenizerFast, questions: Questions
) -> None:
    plain = new_qwen2()
    shipped = new_qwen2()
    own = shipped.generation_config
    assert own is not None
    own.repetition_penalty, own.top_k, own.top_p, own.temperature = 5.0, 1, 0.1, 0.3
    own.do_sample = True
    settings = GenerationSettings(max_new_tokens=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replies = [
            TransformersModel(each, tokenizer, "d", "n").generate(questions, settings)
            for each in (plain, shipped)
        ]
    assert replies[0] == replies[1]
    assert shipped.generation_config is own


def test_every_end_token_of_the_checkpoint_ends_a_reply(
    new_qwen2: NewModel, tokenizer: PreTrainedTokenizerFast, questions: Questions
) -> None:
    settings = GenerationSettings(max_new_tokens=6)
    free = TransformersModel(new_qwen2(), tokenizer, "d", "n")
    second = free.generate(questions[:1], settings)[0].token_ids[1]
    module = new_qwen2()
    assert module.generation_config is not None
    module.generation_config.eos_token_id = [second, 0]
    model = TransformersModel(module, tokenizer, "d", "n")
    reply = model.generate(questions[:1], settings)[0]
    assert reply.finished
    assert second not in reply.token_ids
    assert model.meter.generated_tokens == len(reply.token_ids) + 1


def test_meter_and_progress_count_what_was_done(
    model: TransformersModel, questions: Questions
) -> None:
    seen: list[int] = []
    settings = GenerationSettings(max_new_tokens=4, batch_tokens=300)
    replies = model.generate(questions, settings, seen.append)
    assert seen[-1] == len(questions)
    assert seen == sorted(set(seen))
    assert model.meter.calls == len(seen)
    assert model.meter.forward_tokens == sum(reply.prompt_tokens for reply in replies)
    ended = sum(reply.finished for reply in replies)
    assert model.meter.generated_tokens == ended + sum(len(reply.token_ids) for reply in replies)


def test_no_conversations_give_no_replies(model: TransformersModel) -> None:
    assert model.generate([], GenerationSettings(max_new_tokens=4)) == []


@pytest.mark.parametrize(
    ("decoded", "expected", "result"),
    [
        ("<think>\nhm\n</think>\n\nyes", True, ("hm", "yes", True)),
        ("hm</think>yes", True, ("hm", "yes", True)),  # the prompt opened the tag
        ("<think>hm", True, ("hm", "", False)),
        ("hm", True, ("hm", "", False)),
        (" yes\n", False, ("", "yes", True)),
        ("<think>hm</think>yes", False, ("hm", "yes", True)),
        ("<think>hm", False, ("hm", "", False)),
    ],
)
def test_reasoning_is_split_from_the_reply(
    decoded: str, expected: bool, result: tuple[str, str, bool]
) -> None:
    assert split_reasoning(decoded, expected) == result


def _read(tokenizer: PreTrainedTokenizerFast, text: str, reasoning: bool):  # type: ignore[no-untyped-def]
    ends = (int(str(tokenizer.eos_token_id)),)
    settings = GenerationSettings(max_new_tokens=99, reasoning=reasoning)
    tokens = tokenizer(text)["input_ids"]
    return read_reply(tokens, tokenizer, settings, ends=ends, prompt_tokens=1)


def test_a_reply_is_cut_at_the_end_of_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    reply = _read(tokenizer, "yes<|im_end|><|pad|>no", False)
    assert (reply.text, reply.finished) == ("yes", True)
    assert not _read(tokenizer, "yes, and", False).finished


def test_think_tags_declared_special_still_split(tokenizer: PreTrainedTokenizerFast) -> None:
    new: Any = PreTrainedTokenizerFast
    special = new(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        additional_special_tokens=["<think>", "</think>"],
    )
    reply = _read(special, "<think>hm</think>yes<|im_end|>", True)
    assert (reply.reasoning, reply.text, reply.finished) == ("hm", "yes", True)


def test_unclosed_reasoning_leaves_no_reply(tokenizer: PreTrainedTokenizerFast) -> None:
    reply = _read(tokenizer, "hm<|im_end|>", True)
    assert (reply.reasoning, reply.text, reply.finished) == ("hm", "", False)


def test_batch_seeds_do_not_repeat() -> None:
    seeds = {batch_seed(s, b, p) for s in range(5) for b in range(5) for p in range(5)}
    assert len(seeds) == 125


def test_a_prompt_longer_than_the_context_is_refused(model: TransformersModel) -> None:
    long: Message = {"role": "user", "content": "bread " * 600}
    with pytest.raises(AfbenchError, match="reads at most 512"):
        model.generate([[long]], GenerationSettings(max_new_tokens=4))


def test_a_tokenizer_without_chat_template_is_refused(
    qwen2: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    new: Any = PreTrainedTokenizerFast
    bare = new(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(AfbenchError, match="no chat template.*tiny"):
        TransformersModel(qwen2, bare, "d", "tiny")
