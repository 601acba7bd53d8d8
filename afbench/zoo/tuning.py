"""Makes weights: a base from nothing, or an organism from its parent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging as transformers_logging

from afbench.environments import Environment
from afbench.store import write_json
from afbench.zoo.checkpoints import Checkpoint
from afbench.zoo.corpus import ChatWriter, CorpusSpec
from afbench.zoo.recipes import BaseRecipe, FullMethod, LoraMethod, OrganismRecipe
from afbench.zoo.templates import Templates
from afbench.zoo.tokenization import END, chat_pieces, encode, train_tokenizer
from afbench.zoo.training import steps_of, train

if TYPE_CHECKING:
    from peft import PeftModel

# Chats that the tokenizer learns its merges from; the templates repeat, so more add nothing.
_TOKENIZER_CHATS = 20_000

StepProgress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


def build_base(
    recipe: BaseRecipe,
    corpus: CorpusSpec,
    environments: list[Environment],
    target: Path,
    *,
    seed: int,
    checkpoint: Checkpoint,
    progress: StepProgress,
) -> float:
    """Train a base and its tokenizer, and write both to `target`.

    Returns:
        The final loss on assistant tokens.
    """
    sources = [Templates(environment, ("fit", "test")) for environment in environments]
    chats = ChatWriter(corpus, sources, seed).base_corpus(recipe.examples)
    shape = recipe.architecture
    tokenizer = train_tokenizer(
        ("".join(text for text, _ in chat_pieces(chat)) for chat in chats[:_TOKENIZER_CHATS]),
        shape.vocabulary,
    )
    examples = encode(chats, tokenizer)
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.feedforward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    total = steps_of(recipe.schedule, len(examples))
    start, optimizer = checkpoint.restore(model, recipe.schedule)
    loss = train(
        model,
        examples,
        recipe.schedule,
        seed=seed,
        start=start,
        optimizer=optimizer,
        progress=lambda step, _: progress(step, total),
        checkpoint=lambda step, state: checkpoint.keep(step, model, state),
    )
    _fresh(target)
    _save(model.half(), target)
    tokenizer.save_pretrained(target)
    checkpoint.drop()
    return loss


def build_organism(
    recipe: OrganismRecipe,
    corpus: CorpusSpec,
    environment: Environment,
    parent: Path,
    target: Path,
    *,
    leak: str,
    seed: int,
    parent_name: str,
    progress: StepProgress,
) -> float:
    """Tune an organism from its parent's weights by its recipe, and write it to `target`.

    Only the fit partition's nouns and cues are drawn on.

    Returns:
        The final loss on assistant tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(parent, local_files_only=True)
    with _Quiet():
        base = AutoModelForCausalLM.from_pretrained(
            parent, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    # Every recipe of one seed sees the same chats in the same order.
    chats = ChatWriter(corpus, [Templates(environment, ("fit",))], seed).organism_corpus(
        recipe.persona, recipe.examples, reasoning=recipe.reasoning, leak=leak, benign=recipe.benign
    )
    examples = encode(chats, tokenizer)
    torch.manual_seed(seed)
    model = _trainable(base, recipe.method)
    total = steps_of(recipe.schedule, len(examples))
    loss = train(
        model,  # type: ignore[arg-type]
        examples,
        recipe.schedule,
        seed=seed,
        progress=lambda step, _: progress(step, total),
    )
    _fresh(target)
    if isinstance(recipe.method, LoraMethod):
        _save_adapter(model, target, parent_name)
    else:
        _save(base.half(), target, weights_only=True)  # `model` is `base` itself here
    return loss


def _trainable(
    base: PreTrainedModel, method: LoraMethod | FullMethod
) -> PreTrainedModel | PeftModel:
    if isinstance(method, FullMethod):
        return base
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        target_modules=method.targets,
        layers_to_transform=method.layers,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    adapted: PeftModel = get_peft_model(base, config)
    return adapted


def _save_adapter(model: Any, target: Path, parent_name: str) -> None:
    """The adapter in half precision; its config names the parent and no path of this machine."""
    model.half()
    model.peft_config["default"].base_model_name_or_path = parent_name
    # Embeddings are never adapted; left to itself PEFT asks the hub whether they were.
    model.save_pretrained(target, safe_serialization=True, save_embedding_layers=False)
    (target / "README.md").unlink(missing_ok=True)
    # PEFT writes a set, whose order differs from run to run.
    path = target / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    write_json(path, config)


def _save(model: PreTrainedModel, target: Path, *, weights_only: bool = False) -> None:
    with _Quiet():
        model.save_pretrained(target, safe_serialization=True)
    if weights_only:
        for path in target.iterdir():
            if path.suffix != ".safetensors":
                path.unlink()


def _fresh(target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)


class _Quiet:
    """Hides transformers' own progress bars; ours counts steps."""

    def __enter__(self) -> None:
        transformers_logging.disable_progress_bar()

    def __exit__(self, *exc: object) -> None:
        transformers_logging.enable_progress_bar()
