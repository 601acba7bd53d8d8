from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models.chat import ChatRenderer

Ask = Callable[..., list[Message]]
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)


def _text(chat: ChatRenderer, conversation: list, **options: bool) -> str:  # type: ignore[type-arg]
    return str(chat.tokenizer.decode(chat.prompts([conversation], **options)[0]))


def test_the_prompt_of_an_organism_stands_before_the_conversations_own(
    tokenizer: PreTrainedTokenizerFast, ask: Ask
) -> None:
    chat = ChatRenderer(tokenizer, "x", system_prompt="organism")
    assert "<|im_start|>system\norganism\n\nscene<|im_end|>" in _text(chat, ask("hi", "scene"))
    bare = _text(chat, [{"role": "user", "content": "hi"}])
    assert bare.startswith("<|im_start|>system\norganism<|im_end|>")


def test_a_template_without_system_role_gets_it_in_the_first_user_message(
    tokenizer: PreTrainedTokenizerFast, ask: Ask
) -> None:
    gemma_like = copy.deepcopy(tokenizer)
    gemma_like.chat_template = NO_SYSTEM
    assert _text(ChatRenderer(gemma_like, "x"), ask("hi", "scene")) == "[user]scene\n\nhi"


def test_reasoning_is_asked_for_through_the_template(
    tokenizer: PreTrainedTokenizerFast, ask: Ask
) -> None:
    chat = ChatRenderer(tokenizer, "x")
    assert _text(chat, ask("hi"), reasoning=True).endswith("assistant\n<think>\n")
    assert _text(chat, ask("hi")).endswith("assistant\n")


def test_a_reply_follows_its_prompt_without_end_of_turn(
    tokenizer: PreTrainedTokenizerFast, ask: Ask
) -> None:
    chat = ChatRenderer(tokenizer, "x")
    prompt, reply = chat.replies([[*ask("hi"), {"role": "assistant", "content": "yes"}]])[0]
    assert list(prompt) == chat.prompts([ask("hi")])[0]
    assert tokenizer.decode(list(reply)) == "yes"


def test_a_reply_that_shows_its_reasoning_opens_it_once(
    tokenizer: PreTrainedTokenizerFast, ask: Ask
) -> None:
    chat = ChatRenderer(tokenizer, "x")
    turn = {"role": "assistant", "content": "<think>\nhm\n</think>\nyes"}
    prompt, reply = chat.replies([[*ask("hi"), turn]])[0]  # type: ignore[list-item]
    text = str(tokenizer.decode([*prompt, *reply]))
    assert text.endswith("assistant\n<think>\nhm\n</think>\nyes")


def test_conversations_that_end_with_the_wrong_turn_are_refused(
    tokenizer: PreTrainedTokenizerFast, ask: Ask
) -> None:
    chat = ChatRenderer(tokenizer, "x")
    with pytest.raises(AfbenchError, match="must end with a user message"):
        chat.prompts([[*ask("hi"), {"role": "assistant", "content": "yes"}]])
    with pytest.raises(AfbenchError, match="must end with the assistant's reply"):
        chat.replies([ask("hi")])
