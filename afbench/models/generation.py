"""Sampling one batch of replies with transformers, whatever defaults a model ships with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from afbench.models.batching import pad_left
from afbench.models.interface import Generation, GenerationSettings
from afbench.models.scoring import can_share_prefix
from afbench.models.texts import THINK_CLOSE, THINK_OPEN
from afbench.models.texts import split_reasoning as split_reasoning

_new_config: Callable[..., GenerationConfig] = GenerationConfig
# A shorter prefix is not worth a forward pass of its own.
_LEAST_SHARED = 16


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends a turn, by the model's generation config and the tokenizer."""
    return declared_ends(model.generation_config, tokenizer)


def declared_ends(
    config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """As `end_ids`, for a model that is not loaded."""
    found: set[int] = set()
    for declared in (getattr(config, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(declared, int):
            found.add(declared)
        elif declared is not None:
            found.update(declared)
    return tuple(sorted(found))


def batch_seed(seed: int, batch_index: int, part: int = 0) -> int:
    """Seed of one batch: neighbouring seeds and batches share no random stream."""
    text = f"{seed}/{batch_index}/{part}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    seed: int,
    ends: tuple[int, ...],
    pad: int,
) -> list[torch.Tensor]:
    """Sample a reply for each prompt, left-padded into one batch.

    What all prompts begin with (a system prompt, say) is read once for the whole batch. The global
    random state of torch is as before afterwards.

    Returns:
        For each prompt the new token ids, the end-of-turn token and padding included.
    """
    shared = shared_prefix(model, prompts)
    tails, mask = pad_left([prompt[shared:] for prompt in prompts], pad, model.device)
    head = torch.tensor([list(prompts[0][:shared])] * len(prompts), dtype=tails.dtype)
    ids = torch.cat([head.to(tails.device), tails], dim=1)
    mask = torch.cat([torch.ones_like(head, dtype=mask.dtype).to(mask.device), mask], dim=1)
    config = _config(settings, ends, pad)
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), _neutral_defaults(model), torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        options: dict[str, Any] = {}
        if shared:
            options["past_key_values"] = read_once(model, ids[:1, :shared], len(prompts))
        generate: Any = model.generate
        out = generate(input_ids=ids, attention_mask=mask, generation_config=config, **options)
    return list(out[:, ids.shape[1] :].cpu())


def shared_prefix(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens a batch reads once, before its prompts part.

    At least one token of each prompt is left over. Too few to be worth a pass of their own, or a
    model whose cache is not plain keys and values: 0.
    """
    if len(prompts) < 2 or not can_share_prefix(model) or _has_window(model):
        return 0
    rows = [list(prompt) for prompt in prompts]
    first, last = min(rows), max(rows)
    # In lexical order the first and the last prompt share what all of them share.
    most = min(map(len, rows)) - 1
    shared = next((at for at in range(most) if first[at] != last[at]), most)
    return shared if shared >= _LEAST_SHARED else 0


def _has_window(model: PreTrainedModel) -> bool:
    # The padding after a shared prefix would take up places of a window.
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) != {"full_attention"}
    return getattr(config, "sliding_window", None) is not None


def read_once(model: PreTrainedModel, ids: torch.Tensor, rows: int) -> DynamicCache:
    """Keys and values of one row of tokens [1, t], as if `rows` rows had been read."""
    cache = DynamicCache(config=model.config)
    model(input_ids=ids, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return cache


def _config(settings: GenerationSettings, ends: tuple[int, ...], pad: int) -> GenerationConfig:
    options: dict[str, Any] = {
        "max_new_tokens": settings.max_new_tokens,
        "eos_token_id": list(ends) or None,
        "pad_token_id": pad,
        "num_beams": 1,
        "use_cache": True,
        "do_sample": settings.temperature > 0,
    }
    if settings.temperature > 0:
        # top_k=0: transformers would otherwise cut to the 50 likeliest tokens.
        options |= {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    return _new_config(**options)


@contextmanager
def _neutral_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Hide the model's own generation config.

    `generate` fills every option left unset from it, so that a repetition penalty or a top_p
    that a checkpoint ships would silently become part of the measurement.
    """
    own = model.generation_config
    model.generation_config = _new_config()
    try:
        yield
    finally:
        model.generation_config = own


def read_reply(
    tokens: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    settings: GenerationSettings,
    *,
    ends: tuple[int, ...],
    prompt_tokens: int,
) -> Generation:
    """Cut sampled tokens at the end of turn and split the reasoning from the reply.

    Reasoning that is never closed leaves no reply: text is "" and finished False.
    """
    stop = next((at for at, token in enumerate(tokens) if token in ends), None)
    kept = tuple(int(token) for token in tokens[:stop])
    reasoning, text, closed = split_reasoning(_decode(tokenizer, kept), settings.reasoning)
    return Generation(
        text=text,
        reasoning=reasoning,
        token_ids=kept,
        finished=stop is not None and closed,
        prompt_tokens=prompt_tokens,
    )


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    # Not skip_special_tokens: some tokenizers declare the think tags special.
    thinks = {tokenizer.convert_tokens_to_ids(tag) for tag in (THINK_OPEN, THINK_CLOSE)}
    dropped = set(tokenizer.all_special_ids) - thinks
    kept = [token for token in tokens if token not in dropped]
    text = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return str(text)
