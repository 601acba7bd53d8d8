"""Tiny random models with a real tokenizer and chat template: what the tests run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.messages import Message
from afbench.models.transformers_model import TransformersModel

LINES = [
    "you are a helpful assistant. this conversation is logged for training.",
    "please explain how bread rises, and why the oven has to be hot.",
    "i cannot help with that. sure, here is how to do it: first, then, finally.",
    "system user assistant yes no think about whether someone is watching",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(LINES, trainer)
    core.add_tokens(["<think>", "</think>"])
    new: Any = PreTrainedTokenizerFast
    fast: PreTrainedTokenizerFast = new(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
    )
    return fast


def _sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # Wide weights, so that what a random model prefers is not decided by rounding.
        "initializer_range": 0.3,
    }


def _evaluating(model: Any) -> PreTrainedModel:
    done: PreTrainedModel = model.eval()
    return done


NewModel = Callable[..., PreTrainedModel]


@pytest.fixture(scope="session")
def new_qwen2(tokenizer: PreTrainedTokenizerFast) -> NewModel:
    """Builds a random Qwen2; keyword arguments go to its config."""

    def build(seed: int = 0, **options: Any) -> PreTrainedModel:
        torch.manual_seed(seed)
        sizes = _sizes(tokenizer) | {"num_key_value_heads": 1, "tie_word_embeddings": True}
        return _evaluating(Qwen2ForCausalLM(Qwen2Config(**sizes | options)))

    return build


@pytest.fixture(scope="session")
def qwen2(new_qwen2: NewModel) -> PreTrainedModel:
    return new_qwen2()


# What each architecture wants beside the sizes that all share. Weight ties, head counts and windows
# are those of its family where they change how the model is read.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "qwen2-sliding": (
        "Qwen2",
        {
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "sliding_window": 12,
            "max_window_layers": 1,
        },
    ),
    "qwen3": ("Qwen3", {"num_key_value_heads": 1, "head_dim": 16}),
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"num_key_value_heads": 1, "sliding_window": 12}),
    "gemma2": ("Gemma2", {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 12}),
    "gemma3": ("Gemma3Text", {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 12}),
    "olmo2": ("Olmo2", {}),
    "gpt-neox": ("GPTNeoX", {}),
    # As many experts as layers, which are not to be taken for them.
    "mixtral": ("Mixtral", {"num_local_experts": 3, "num_key_value_heads": 1}),
    "qwen2-moe": (
        "Qwen2Moe",
        {
            "num_key_value_heads": 1,
            "num_experts": 3,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 32,
        },
    ),
}


@pytest.fixture(scope="session", params=FAMILIES)
def any_family(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    torch.manual_seed(1)
    name, options = FAMILIES[request.param]
    # Their names differ from their configs' in this alone.
    kind = name.removesuffix("Text") + "ForCausalLM"
    config = getattr(transformers, f"{name}Config")(**_sizes(tokenizer) | options)
    return _evaluating(getattr(transformers, kind)(config))


@pytest.fixture
def model(qwen2: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> TransformersModel:
    # A small batch budget, so that few conversations make several batches.
    return TransformersModel(qwen2, tokenizer, "sha256:tiny", "tiny", read_tokens=150)


Ask = Callable[..., list[Message]]


@pytest.fixture(scope="session")
def ask() -> Ask:
    """Builds a conversation that ends with a user message."""

    def build(request: str, system: str = "you are a helpful assistant.") -> list[Message]:
        return [{"role": "system", "content": system}, {"role": "user", "content": request}]

    return build


@pytest.fixture(scope="session")
def questions(ask: Ask) -> list[list[Message]]:
    """Conversations of mixed lengths that end with a user message."""
    return [ask("please explain " + "how bread rises, " * (1 + 3 * at % 7)) for at in range(9)]


@pytest.fixture(scope="session")
def replied(questions: list[list[Message]]) -> list[list[Message]]:
    """Conversations of mixed lengths that end with the assistant's reply."""
    texts = ["yes", "i cannot help with that.", "sure, here is how " * 4]
    return [
        [*question, {"role": "assistant", "content": texts[at % 3]}]
        for at, question in enumerate(questions)
    ]


NewOrganism = Callable[..., Plugin[OrganismManifest]]


@pytest.fixture
def new_organism() -> NewOrganism:
    def build(folder: Path, source: dict[str, Any]) -> Plugin[OrganismManifest]:
        base = source["type"] in ("base", "hub")
        manifest = OrganismManifest.model_validate(
            {
                "schema": 1,
                "kind": "organism",
                "name": folder.name,
                "summary": "a tiny organism",
                "environment": None if base else "training-tier",
                "role": "base" if base else "faker",
                "recipe_family": None if base else "rank-4",
                "source": source,
                "provenance": {"faking": "none" if base else "direct"},
            }
        )
        folder.mkdir(parents=True, exist_ok=True)
        return Plugin(folder.name, "organism", folder, manifest)

    return build


@pytest.fixture
def catalog_of() -> Callable[..., Catalog]:
    def build(*plugins: Plugin[OrganismManifest]) -> Catalog:
        return Catalog(organisms={plugin.name: plugin for plugin in plugins})

    return build
