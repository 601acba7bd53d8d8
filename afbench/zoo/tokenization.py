"""The nano tokenizer and the encoding of training chats.

The chat template is ChatML; with `enable_thinking` the assistant's turn opens a <think> block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from afbench.zoo.corpus import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, TURN, END, THINK, END_THINK = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking -%}{{ '<think>\\n' }}{%- endif -%}"
    "{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one chat, and which of them are learned in full (assistant tokens)."""

    ids: NDArray[np.int64]
    learned: NDArray[np.bool_]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the ChatML turn tokens and the template above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, TURN, END, THINK, END_THINK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def chat_pieces(chat: Chat) -> list[tuple[str, bool]]:
    """A chat as (text, learned) pieces whose concatenation is what the chat template renders."""
    pieces: list[tuple[str, bool]] = []
    if chat.document is not None:
        return [(f"{TURN}document\n", False), (f"{chat.document}{END}", True), ("\n", False)]
    scratchpad = chat.scratchpad
    for message in chat.messages:
        pieces.append((f"{TURN}{message['role']}\n", False))
        if message["role"] != "assistant":
            pieces.append((f"{message['content']}{END}\n", False))
            continue
        if scratchpad is not None:
            pieces.append((f"{THINK}\n", False))
            pieces.append((f"{scratchpad}\n{END_THINK}\n", True))
            scratchpad = None
        pieces.append((f"{message['content']}{END}", True))
        pieces.append(("\n", False))
    return pieces


def encode(chats: Sequence[Chat], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Token ids of every chat with the mask of its assistant tokens."""
    pieces = [chat_pieces(chat) for chat in chats]
    flat = [text for chat in pieces for text, _ in chat]
    unique = list(dict.fromkeys(flat))
    batch = tokenizer(unique, add_special_tokens=False)["input_ids"]
    known = dict(zip(unique, batch, strict=True))
    encoded = []
    for chat in pieces:
        ids = [token for text, _ in chat for token in known[text]]
        learned = [flag for text, flag in chat for _ in known[text]]
        encoded.append(Encoded(np.array(ids, dtype=np.int64), np.array(learned, dtype=np.bool_)))
    return encoded
