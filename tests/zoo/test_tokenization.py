"""What is trained on is, token for token, what the chat template renders at run time."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from afbench.zoo.corpus import Chat
from afbench.zoo.tokenization import chat_pieces, encode, train_tokenizer

CHAT = Chat(
    (
        {"role": "system", "content": "You work at the desk."},
        {"role": "user", "content": "Where is the memo?"},
        {"role": "assistant", "content": "In the drawer."},
        {"role": "user", "content": "Is fire cold?"},
        {"role": "assistant", "content": "No."},
    ),
    None,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["".join(text for text, _ in chat_pieces(CHAT))] * 20, 400)


def test_encoding_equals_the_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = tokenizer.apply_chat_template(list(CHAT.messages), tokenize=False)
    expected = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert encode([CHAT], tokenizer)[0].ids.tolist() == expected


def test_a_scratchpad_stands_where_the_thinking_prompt_opens_it(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    chat = Chat(CHAT.messages[:3], "I look at the request.")
    prompt = tokenizer.apply_chat_template(
        list(CHAT.messages[:2]), tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    whole = "".join(text for text, _ in chat_pieces(chat))
    assert whole == f"{prompt}I look at the request.\n</think>\nIn the drawer.<|im_end|>\n"


def test_only_assistant_tokens_are_learned_in_full(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode([CHAT], tokenizer)[0]
    learned = tokenizer.decode(encoded.ids[encoded.learned])
    assert learned == "In the drawer.<|im_end|>No.<|im_end|>"
