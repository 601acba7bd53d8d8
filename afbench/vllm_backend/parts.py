"""What an organism is made of on disk: full weights, an adapter, a prompt."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import (
    BaseSource,
    FullSource,
    HubSource,
    OrganismManifest,
    PromptedSource,
    VariantSource,
)
from afbench.errors import AfbenchError
from afbench.models.chat import join_prompts
from afbench.models.digests import parent_of, source_folder
from afbench.models.hub_organisms import OrganismFiles
from afbench.models.rounding import round_weights

Organism = Plugin[OrganismManifest]
Fetch = Callable[[Organism], OrganismFiles]

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Parts:
    """An organism in files.

    Attributes:
        weights: the folder of its full weights.
        root: the folder of its config and tokenizer; `weights` may hold no more than weights.
        adapter: the folder of its LoRA adapter.
        scale: multiplies what the adapter adds.
        bits: to which its full weights are rounded.
        system_prompt: its own.
    """

    weights: Path
    root: Path
    adapter: Path | None = None
    scale: float = 1.0
    bits: int | None = None
    system_prompt: str | None = None

    @property
    def base_key(self) -> str:
        """Which full weights these are."""
        return f"{self.weights} {self.root} {self.bits}"


def parts_of(plugin: Organism, catalog: Catalog, default_parent: str | None, fetch: Fetch) -> Parts:
    """Resolve an organism to files; nothing is loaded.

    Args:
        fetch: gives the files of a hub organism.

    Raises:
        AfbenchError: it is made in a way that cannot be run.
    """
    source = plugin.manifest.source
    if isinstance(source, BaseSource):
        return Parts(source_folder(plugin), source_folder(plugin))
    if isinstance(source, HubSource):
        found = fetch(plugin)
        return Parts(found.model, found.model, found.adapter)
    parent = parent_of(plugin, catalog, default_parent)
    assert parent is not None  # only bases and hub models have none
    below = parts_of(parent, catalog, default_parent, fetch)
    if isinstance(source, FullSource):
        return Parts(source_folder(plugin), below.root)
    if isinstance(source, VariantSource):
        return _variant(plugin, source, below)
    if isinstance(source, PromptedSource):
        return _prompted(below, source.system_prompt)
    if below.adapter is not None or below.system_prompt is not None:
        raise AfbenchError(
            "an adapter on an adapted or prompted parent is not supported",
            where=f"organism '{plugin.name}'",
            fix="train it on the base, or merge the parent into full weights",
        )
    return _prompted(replace(below, adapter=source_folder(plugin)), source.system_prompt)


def _prompted(parts: Parts, text: str | None) -> Parts:
    return replace(parts, system_prompt=join_prompts(parts.system_prompt, text) or None)


def _variant(plugin: Organism, source: VariantSource, below: Parts) -> Parts:
    if source.scale is None:
        return replace(below, bits=source.bits)
    if below.adapter is None:
        raise AfbenchError(
            "only what an adapter adds can be scaled, and its parent has none",
            where=f"organism '{plugin.name}'",
            fix="name an organism with an adapter as source.parent",
        )
    return replace(below, scale=source.scale)


def model_folder(parts: Parts, scratch: Path) -> Path:
    """One folder with all that vLLM reads of a base.

    Args:
        scratch: where folders are put together that no organism has.
    """
    if parts.bits is None and parts.weights == parts.root:
        return parts.root
    folder = scratch / f"base-{_short(parts.base_key)}"
    if folder.exists():
        return folder
    folder.mkdir()
    for path in parts.root.iterdir():
        if path.is_file() and not path.name.startswith("model"):
            (folder / path.name).symlink_to(path.resolve())
    if parts.bits is not None:
        _save_rounded(parts, parts.bits, folder)
        return folder
    for path in parts.weights.glob("model*"):
        (folder / path.name).symlink_to(path.resolve())
    return folder


def _save_rounded(parts: Parts, bits: int, folder: Path) -> None:
    with_config = model_folder(replace(parts, bits=None), folder.parent)
    model = AutoModelForCausalLM.from_pretrained(
        with_config, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    round_weights(model, bits)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def adapter_folder(parts: Parts, scratch: Path) -> Path:
    """The folder of an organism's adapter, scaled if it is a scaled variant."""
    assert parts.adapter is not None
    if parts.scale == 1.0:
        return parts.adapter
    folder = scratch / f"adapter-{_short(f'{parts.adapter} {parts.scale}')}"
    if folder.exists():
        return folder
    folder.mkdir()
    shutil.copyfile(parts.adapter / _ADAPTER_FILES[0], folder / _ADAPTER_FILES[0])
    tensors = load_file(parts.adapter / _ADAPTER_FILES[1])
    scaled = {
        name: value * parts.scale if ".lora_B." in name or "lora_embedding_B" in name else value
        for name, value in tensors.items()
    }
    save_file(scaled, folder / _ADAPTER_FILES[1])
    return folder


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
