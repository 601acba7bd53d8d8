"""Many organisms on one base: LoRA adapters are switched in memory, the base is loaded once."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, cast

import peft
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from afbench.errors import AfbenchError

_WEIGHTS = "adapter_model.safetensors"
_SWITCHING = ""  # the name of no organism


class AdapterHost:
    """A base model and the LoRA adapters that share it.

    PEFT puts the adapters' layers into the base in place, so `model` stays the module to call;
    `activate` decides as whom it answers. The host remembers what is active: do not switch
    adapters of `model` behind its back.

    Args:
        model: the base, in evaluation mode.
        max_adapters: the most adapters kept in memory; the one that was not used for longest
            leaves first, and is read from disk again when it is needed.
    """

    def __init__(self, model: PreTrainedModel, max_adapters: int = 32) -> None:
        self.model = model
        self.max_adapters = max_adapters
        self._peft: peft.PeftModel | None = None
        self._loaded: list[str] = []  # least recently used first
        self._active: str | None = None

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
            self._active = None
            return
        if name == self._active:
            return
        key = f"organism-{name}"
        if key not in self._loaded:
            if folder is None:
                raise AfbenchError(f"adapter '{name}' is not loaded")
            self._load(key, name, folder)
            self._rescale(key, scale)
        assert self._peft is not None
        # Cut off between here and the end (by a time limit), the host must not believe that the
        # adapter before is still active.
        self._active = _SWITCHING
        cast(Any, self._peft.base_model).enable_adapter_layers()
        self._peft.set_adapter(key, inference_mode=True)
        self._active = name
        self._loaded.remove(key)
        self._loaded.append(key)
        if len(self._loaded) > self.max_adapters:
            self._peft.delete_adapter(self._loaded.pop(0))

    def _load(self, key: str, name: str, folder: Path) -> None:
        """Read an adapter; when that fails, the host is as before and answers as the base."""
        check_adapter(name, folder)
        self.activate(None)
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
        self._loaded.append(key)

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
        if self._peft is not None and self._loaded:
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


def check_adapter(name: str, folder: Path) -> None:
    """Check that a folder holds a LoRA adapter in safetensors, before anything is loaded.

    PEFT would fall back to a pickle, which runs code when it is read.

    Raises:
        AfbenchError: it does not.
    """
    where = f"organism '{name}'"
    if not (folder / _WEIGHTS).is_file():
        raise AfbenchError(
            f"{folder.name}/{_WEIGHTS} is missing", where=where, fix="only safetensors are loaded"
        )
    try:
        config: Any = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AfbenchError(
            f"{folder.name}/adapter_config.json cannot be read: {error}", where=where
        ) from error
    kind = cast("dict[str, Any]", config).get("peft_type")
    if kind != "LORA":
        raise AfbenchError(f"adapter of type {kind} is not supported", where=where, fix="use LoRA")


def _misfit(name: str, why: str) -> AfbenchError:
    return AfbenchError(
        f"the adapter does not fit its parent: {why}",
        where=f"organism '{name}'",
        fix="check source.parent in organism.yaml",
    )
