"""LoRA adapters as vLLM takes them, checked before it does: its own failures end the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from afbench.errors import AfbenchError
from afbench.models.adapters import check_adapter

_PREFIX = "base_model.model."
_RANKS = (16, 32, 64, 128, 256, 320, 512)


def rank_of(name: str, adapter: Path, base: Path) -> int:
    """The rank of an adapter, after it was checked against the base it is put on.

    Only the headers of the weight files are read.

    Raises:
        AfbenchError: it is no LoRA adapter in safetensors, was made on a model of another shape, or
            is of a kind that vLLM does not run.
    """
    check_adapter(name, adapter)
    config: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    for field in ("use_dora", "modules_to_save"):
        if config.get(field):
            raise AfbenchError(
                f"vLLM does not run adapters with {field}",
                where=f"organism '{name}'",
                fix="use --backend transformers, or merge it into full weights",
            )
    rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    if rank > _RANKS[-1]:
        raise AfbenchError(
            f"its rank is {rank}, and vLLM runs adapters up to {_RANKS[-1]}",
            where=f"organism '{name}'",
            fix="merge it into full weights, or use --backend transformers",
        )
    _check_shapes(name, _shapes(adapter / "adapter_model.safetensors"), _base_shapes(base))
    return rank


def rounded_rank(rank: int) -> int:
    """The least rank of an engine that takes adapters of this rank."""
    return next(one for one in _RANKS if one >= rank)


def _check_shapes(name: str, adapter: dict[str, list[int]], base: dict[str, list[int]]) -> None:
    for key, shape in adapter.items():
        module, side, _ = key.removeprefix(_PREFIX).rpartition(".lora_A.weight")
        axis = 1
        if not side:
            module, side, _ = key.removeprefix(_PREFIX).rpartition(".lora_B.weight")
            axis = 0
        if not side:
            continue  # an embedding's, which vLLM refuses by itself
        weight = base.get(f"{module}.weight")
        if weight is None:
            raise _misfit(name, f"the model has no {module}")
        if weight[axis] != shape[axis]:
            raise _misfit(
                name, f"{module} takes {weight[axis]} and the adapter's has {shape[axis]} values"
            )


def _base_shapes(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= _shapes(path)
    return found


def _shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, framework="pt") as file:
        return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def _misfit(name: str, why: str) -> AfbenchError:
    return AfbenchError(
        f"the adapter does not fit its parent: {why}",
        where=f"organism '{name}'",
        fix="check source.parent in organism.yaml",
    )
