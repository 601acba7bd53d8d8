"""Every architecture that is promised, as a small random model: what `any_family` is beside this.

Log-probabilities, activations, the logit lens and perturbations run over the same families in the
tests of their modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models.extraction import find_blocks
from afbench.models.generation import shared_prefix
from afbench.models.interface import POOLINGS, GenerationSettings
from afbench.models.transformers_model import TransformersModel

Conversations = list[list[Message]]

GREEDY = GenerationSettings(max_new_tokens=6)


@pytest.fixture
def model(any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> TransformersModel:
    return TransformersModel(any_family, tokenizer, "d", "n", read_tokens=300)


def test_greedy_replies_equal_plain_decoding_of_each_prompt_alone(
    model: TransformersModel, questions: Conversations
) -> None:
    replies = model.generate(questions, GREEDY)
    ends = {model.chat.tokenizer.eos_token_id}
    for prompt, reply in zip(model.chat.prompts(questions), replies, strict=True):
        ids, said = list(prompt), list[int]()
        for _ in range(GREEDY.max_new_tokens):
            with torch.inference_mode():
                logits = model.module(torch.tensor([ids]), use_cache=False).logits[0, -1]
            token = int(logits.argmax())
            if token in ends:
                break
            said.append(token)
            ids.append(token)
        assert reply.token_ids == tuple(said)


def test_what_prompts_share_is_read_once_and_changes_no_reply(
    model: TransformersModel, ask: Callable[[str], list[Message]]
) -> None:
    start = "a long beginning that all of them share, and then "
    talks = [ask(start + "x " * count) for count in (1, 9, 4)]
    widths: list[tuple[int, ...]] = []
    hook = model.module.register_forward_pre_hook(
        lambda _m, _a, options: widths.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    together = model.generate(talks, GREEDY)
    hook.remove()
    alone = [model.generate([talk], GREEDY)[0] for talk in talks]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    prompts = model.chat.prompts(talks)
    shared = shared_prefix(model.module, prompts)
    longest = max(map(len, prompts))
    if shared:
        assert widths[:2] == [(1, shared), (3, longest - shared)]
    else:
        assert widths[0] == (3, longest)


def test_a_prefix_is_shared_wherever_attention_has_no_window(
    any_family: PreTrainedModel,
) -> None:
    prompts = [[5] * 20 + [6], [5] * 20 + [7, 8]]
    config = any_family.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    # Mistral has one kind of layer and names none.
    window = "sliding_attention" in kinds if kinds else config.model_type == "mistral"
    assert shared_prefix(any_family, prompts) == (0 if window else 20)
    assert shared_prefix(any_family, [[5] * 20, [5] * 20]) == (0 if window else 19)
    assert shared_prefix(any_family, [[5] * 9 + [6], [5] * 9 + [7]]) == 0


def test_no_block_runs_after_the_deepest_layer_asked_for(
    model: TransformersModel, replied: Conversations
) -> None:
    whole = model.activations(replied, None, ["response_mean"])
    reached: list[int] = []
    hooks = [
        block.register_forward_hook(lambda _m, _a, _o, at=at: reached.append(at))
        for at, block in enumerate(find_blocks(model.module, model.n_layers), start=1)
    ]
    shallow = model.activations(replied[:1], [1], ["response_mean"])
    for hook in hooks:
        hook.remove()
    assert reached == [1]
    np.testing.assert_allclose(shallow[:, :, 0], whole[:1, :, 1], atol=1e-4, rtol=1e-4)


@contextmanager
def full_above(module: PreTrainedModel, rows: int) -> Iterator[list[int]]:
    """A device that holds batches of so many rows; yields the sizes that were tried."""
    tried: list[int] = []

    def check(_module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        ids = args[0] if args else options["input_ids"]
        tried.append(len(ids))
        if len(ids) > rows:
            raise torch.OutOfMemoryError("tried to allocate more than there is")

    hook = module.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield tried
    finally:
        hook.remove()


def test_out_of_memory_halves_the_batch_says_so_and_goes_on(
    qwen2: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: Conversations,
    replied: Conversations,
) -> None:
    model = TransformersModel(qwen2, tokenizer, "d", "n", read_tokens=100_000)
    asked = {
        "generate": lambda: model.generate(questions, GREEDY),
        "logprobs": lambda: model.logprobs(questions, ["yes", "no way"]),
        "activations": lambda: model.activations(replied, [1, 3], POOLINGS),
        "reply_logprobs": lambda: model.reply_logprobs(replied)[0],
    }
    for name, ask in asked.items():
        expected: Any = ask()
        with full_above(qwen2, 2) as tried, pytest.warns(RuntimeWarning, match="out of memory"):
            found: Any = ask()
        assert max(tried) == len(questions), name
        if name == "generate":
            assert found == expected
        else:
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4, err_msg=name)


def test_one_conversation_that_does_not_fit_is_one_clear_line(
    model: TransformersModel, replied: Conversations
) -> None:
    with (
        full_above(model.module, 0),
        pytest.raises(AfbenchError, match="one conversation alone does not fit"),
    ):
        model.activations(replied[:1], [1], ["prompt_last"])


def test_a_missing_chat_template_is_one_clear_line(
    any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)  # type: ignore[no-untyped-call]
    with pytest.raises(AfbenchError, match="no chat template.*organism 'n'"):
        TransformersModel(any_family, bare, "d", "n")
