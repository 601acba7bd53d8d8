"""Many organisms on one base: LoRA adapters are switched in memory, the base is loaded once."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import peft
import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from afbench.errors import AfbenchError

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_SWITCHING = ""  # the name of no organism
# What adapters in memory may take together.
_MAX_BYTES = 2 * 2**30
# Fields of an adapter's configuration that say nothing of the layers it makes.
_NO_PART_OF_ITS_SHAPE = frozenset({"base_model_name_or_path", "revision", "inference_mode"})
# With these an adapter is more than two matrices for each layer.
_MORE_THAN_MATRICES = ("use_dora", "modules_to_save", "trainable_token_indices")


@dataclass(slots=True)
class _Slot:
    """Layers that PEFT has put into the base for adapters of one shape; one of them is in it.

    Attributes:
        key: PEFT's name of it.
        parameters: by their names in an adapter's file.
        holds: the adapter whose weights are in the layers.
        shared: whether other adapters may take its place.
    """

    key: str
    parameters: dict[str, nn.Parameter]
    holds: str
    shared: bool


@dataclass(frozen=True, slots=True)
class _Held:
    """An adapter's weights in memory, by their names in its file."""

    slot: _Slot
    tensors: dict[str, torch.Tensor]

    @property
    def size(self) -> int:
        return sum(one.numel() * one.element_size() for one in self.tensors.values())

    def put_in(self, name: str) -> None:
        """Let the slot's layers compute with these weights."""
        if self.slot.holds == name:
            return
        self.slot.holds = _SWITCHING
        for key, parameter in self.slot.parameters.items():
            parameter.data = self.tensors[key].to(parameter.device)
        self.slot.holds = name


class AdapterHost:
    """A base model and the LoRA adapters that share it.

    PEFT puts an adapter's layers into the base in place, so `model` stays the module to call;
    `activate` decides as whom it answers. Adapters of one shape (configuration and scale) take
    turns in the same layers: PEFT walks all the layers of all of its adapters whenever one is
    loaded or switched, which with a hundred of them takes longer than a forward pass. The host
    remembers what is active: do not switch adapters of `model` behind its back.

    Args:
        model: the base, in evaluation mode.
        max_adapters: the most adapters kept in memory, within 2 GiB; the one that was not used for
            longest leaves first, and is read from disk again when it is needed.
    """

    def __init__(self, model: PreTrainedModel, max_adapters: int = 1024) -> None:
        self.model = model
        self.max_adapters = max_adapters
        self._peft: peft.PeftModel | None = None
        self._slots: dict[str, _Slot] = {}
        self._held: OrderedDict[str, _Held] = OrderedDict()  # least recently used first
        self._active: str | None = None
        self._chosen: str | None = None  # the slot that PEFT computes with

    def activate(self, name: str | None, folder: Path | None = None, scale: float = 1.0) -> None:
        """Answer as the adapter `name`, kept in `folder`, or as the base (None).

        Args:
            scale: multiplies what the adapter adds; a name keeps the scale it is first loaded at.

        Raises:
            AfbenchError: the adapter is not a LoRA adapter in safetensors that fits the base.
        """
        if name is None:
            if self._peft is not None and self._active is not None:
                cast(Any, self._peft.base_model).disable_adapter_layers()
            self._active = self._chosen = None
            return
        if name == self._active:
            return
        if name not in self._held:
            if folder is None:
                raise AfbenchError(f"adapter '{name}' is not loaded")
            self._held[name] = self._read(name, folder, scale)
        assert self._peft is not None
        held = self._held[name]
        # Cut off between here and the end (by a time limit), the host must not believe that the
        # adapter before is still active.
        self._active = _SWITCHING
        if self._chosen != held.slot.key:
            if self._chosen is None:
                cast(Any, self._peft.base_model).enable_adapter_layers()
            self._chosen = None
            self._peft.set_adapter(held.slot.key, inference_mode=True)
            self._chosen = held.slot.key
        held.put_in(name)
        self._active = name
        self._held.move_to_end(name)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._held) > self.max_adapters or (
            len(self._held) > 1 and sum(held.size for held in self._held.values()) > _MAX_BYTES
        ):
            _, gone = self._held.popitem(last=False)
            if not gone.slot.shared and self._peft is not None:
                self._peft.delete_adapter(gone.slot.key)
                del self._slots[gone.slot.key]

    def _read(self, name: str, folder: Path, scale: float) -> _Held:
        """Read an adapter; when that fails, the host is as before and answers as the base."""
        config = check_adapter(name, folder)
        self.activate(None)
        shared = not any(config.get(field) for field in _MORE_THAN_MATRICES)
        shared = shared and config.get("bias", "none") == "none"
        key = f"shape-{_shape(config, scale)}" if shared else f"organism-{name}"
        slot = self._slots.get(key)
        if slot is not None:
            return _Held(slot, _tensors_for(slot, name, folder))
        try:
            with warnings.catch_warnings():
                # PEFT 0.21 asks transformers 5.23 for an attribute by its deprecated name.
                warnings.simplefilter("ignore", FutureWarning)
                missing = self._read_into_base(key, folder)
        except (ValueError, KeyError, RuntimeError, TypeError) as error:
            self._discard(key)
            raise _misfit(name, str(error).splitlines()[0]) from error
        if missing:
            self._discard(key)
            raise _misfit(name, f"its file lacks {missing[0]}")
        self._rescale(key, scale)
        assert self._peft is not None
        own = {
            found.replace(f".{key}.", "."): parameter
            for found, parameter in self._peft.named_parameters()
            if f".{key}." in found
        }
        slot = self._slots[key] = _Slot(key, own, name, shared)
        return _Held(slot, {found: parameter.data for found, parameter in own.items()})

    def _read_into_base(self, key: str, folder: Path) -> list[str]:
        """Returns the names of weights that the adapter's file lacks."""
        if self._peft is None:
            config = peft.PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            self._peft = peft.PeftModel(self.model, config, adapter_name=key)
        device = str(self.model.device)  # PEFT would take any accelerator it finds
        result = self._peft.load_adapter(folder, adapter_name=key, torch_device=device)
        self._peft.eval()
        # Adapters with other targets are "missing" from this file too; only its own count.
        return [missing for missing in result.missing_keys if f".{key}." in missing]

    def _rescale(self, key: str, scale: float) -> None:
        if scale == 1.0:
            return
        for module in self.model.modules():
            if isinstance(module, LoraLayer) and key in module.scaling:
                module.set_scale(key, scale)

    def _discard(self, key: str) -> None:
        """Take out what an adapter that failed to load left in the base."""
        if self._peft is not None and self._slots:
            if key in self._peft.peft_config:
                self._peft.delete_adapter(key)
            cast(Any, self._peft.base_model).disable_adapter_layers()
            return
        # Nothing else is loaded: undo the injection, which may have stopped half-way.
        for path, module in list(self.model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                self.model.set_submodule(path, module.get_base_layer())
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config
        self._peft = None


def _shape(config: Mapping[str, Any], scale: float) -> str:
    told = {key: value for key, value in config.items() if key not in _NO_PART_OF_ITS_SHAPE}
    text = json.dumps([told, scale], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tensors_for(slot: _Slot, name: str, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of an adapter's file that go into a slot, in the precision of its layers."""
    try:
        found = load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise _misfit(name, str(error).splitlines()[0]) from error
    tensors = {}
    for key, parameter in slot.parameters.items():
        if key not in found:
            raise _misfit(name, f"its file lacks {key}")
        if found[key].shape != parameter.shape:
            is_, wanted = tuple(found[key].shape), tuple(parameter.shape)
            raise _misfit(name, f"size mismatch for {key}: {is_} in its file, {wanted} in the base")
        tensors[key] = found[key].to(parameter.dtype)
    return tensors


def check_adapter(name: str, folder: Path) -> dict[str, Any]:
    """Check that a folder holds a LoRA adapter in safetensors, before anything is loaded.

    PEFT would fall back to a pickle, which runs code when it is read.

    Returns:
        Its configuration.

    Raises:
        AfbenchError: it does not.
    """
    where = f"organism '{name}'"
    if not (folder / _WEIGHTS).is_file():
        raise AfbenchError(
            f"{folder.name}/{_WEIGHTS} is missing", where=where, fix="only safetensors are loaded"
        )
    try:
        config: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind = config.get("peft_type")
    except (OSError, ValueError, AttributeError) as error:
        raise AfbenchError(
            f"{folder.name}/{_CONFIG} cannot be read: {error}", where=where
        ) from error
    if kind != "LORA":
        raise AfbenchError(f"adapter of type {kind} is not supported", where=where, fix="use LoRA")
    return config


def _misfit(name: str, why: str) -> AfbenchError:
    return AfbenchError(
        f"the adapter does not fit its parent: {why}",
        where=f"organism '{name}'",
        fix="check source.parent in organism.yaml",
    )
