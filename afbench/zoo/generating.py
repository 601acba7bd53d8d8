"""Samples replies from a model in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from afbench.messages import Message


def sample(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    seed: int,
    temperature: float = 1.0,
    reasoning: bool = False,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One reply to each conversation: (prompt ids [p], reply ids [r]); greedy at temperature 0.

    The reply includes its end-of-turn token where it came to one. The model's mode is left as it
    was.
    """
    texts = [
        tokenizer.apply_chat_template(
            list(conversation),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=reasoning,
        )
        for conversation in conversations
    ]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):  # on the left, so that all replies start together
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = 1
    training = model.training
    model.eval()
    torch.manual_seed(seed)
    how: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        # top_k=0: transformers would otherwise cut to the 50 likeliest tokens.
        how = {"do_sample": True, "temperature": temperature, "top_k": 0}
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            **how,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    model.train(training)
    replies = out[:, longest:]
    found = []
    for row, reply in zip(rows, replies, strict=True):
        ends = (reply == tokenizer.eos_token_id).nonzero()
        length = int(ends[0, 0]) + 1 if len(ends) else len(reply)
        found.append((torch.tensor(row), reply[:length]))
    return found
