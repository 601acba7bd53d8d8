"""One vLLM engine: a base in memory, and the adapters that requests name."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file

from afbench.errors import AfbenchError
from afbench.vllm_backend.reading import VALUES

# Of an engine's process. What a user has set stays.
_QUIET: Final = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_ON_CPU: Final = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # it would take every core
    # Without it small helpers are compiled for a minute or two at the first request.
    "TORCH_COMPILE_DISABLE": "1",
}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is started.

    Attributes:
        device: "cpu" or "cuda"; what vLLM was built for decides, this is to know which.
        dtype: of weights and activations.
        rank: the highest rank of an adapter; 0 for none.
        adapters: the most adapters that answer in one step.
        layers: whose hidden states it keeps; none for an engine that generates.
        memory: share of the GPU's memory that the engine may take.
    """

    device: str
    dtype: str
    rank: int = 0
    adapters: int = 8
    layers: tuple[int, ...] = ()
    memory: float = 0.55


class Engine:
    """An engine in a process of its own.

    Args:
        folder: a whole model in the format of transformers, weights in safetensors.
        settings: see there.

    Raises:
        AfbenchError: vLLM cannot start with it.
    """

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        self.settings = settings
        self._scratch = tempfile.TemporaryDirectory(prefix="afbench-vllm-")
        self._numbers: dict[str, int] = {}
        on_cpu = settings.device == "cpu"
        with _environment(_QUIET | (_ON_CPU if on_cpu else {})):
            self._vllm: Any = importlib.import_module("vllm")
            self._lora: Any = importlib.import_module("vllm.lora.request")
            try:
                self._llm: Any = self._vllm.LLM(**_arguments(folder, settings, self.readings))
            except Exception as error:  # vLLM raises whatever it met
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise AfbenchError(
                    f"vLLM cannot start: {first}",
                    where=str(folder),
                    fix="VLLM_LOGGING_LEVEL=INFO shows why; --backend transformers does without",
                ) from error

    @property
    def readings(self) -> Path:
        """Where hidden states are put."""
        return Path(self._scratch.name)

    @property
    def max_length(self) -> int:
        """The most tokens of a prompt and its reply."""
        return int(self._llm.llm_engine.model_config.max_model_len)

    def ask(
        self,
        prompts: Sequence[Sequence[int]],
        options: Sequence[Mapping[str, Any]],
        adapters: Sequence[tuple[str, Path] | None],
    ) -> list[Any]:
        """Run requests together and wait for all.

        Args:
            prompts: token ids [n][t].
            options: the sampling parameters of each.
            adapters: the name and folder of each one's adapter; a name stands for its content.

        Returns:
            vLLM's output of each, in the order given.
        """
        answers: list[Any] = [None] * len(prompts)
        for part in _steps(adapters, apart=self.settings.device == "cpu"):
            own = [adapters[at] for at in part]
            found = self._llm.generate(
                [{"prompt_token_ids": list(prompts[at])} for at in part],
                [self._vllm.SamplingParams(detokenize=False, **options[at]) for at in part],
                lora_request=[self._request(one) for one in own] if any(own) else None,
                use_tqdm=False,
            )
            for at, answer in zip(part, found, strict=True):
                answers[at] = answer
        return answers

    def taken(self, file: str) -> torch.Tensor:
        """What the connector wrote; it is removed."""
        path = self.readings / file
        if not path.is_file():
            raise AfbenchError("vLLM gave no hidden states for a conversation", where=str(path))
        found = load_file(path)[VALUES]
        path.unlink()
        return found

    def close(self) -> None:
        """End the engine's process; its memory is free afterwards."""
        self._llm.llm_engine.engine_core.shutdown()
        self._scratch.cleanup()

    def _request(self, adapter: tuple[str, Path] | None) -> Any:
        if adapter is None:
            return None
        # vLLM keeps adapters by their number, and cached prefixes by their name.
        number = self._numbers.setdefault(adapter[0], len(self._numbers) + 1)
        return self._lora.LoRARequest(adapter[0], number, str(adapter[1]))


def _steps(adapters: Sequence[tuple[str, Path] | None], *, apart: bool) -> list[list[int]]:
    """Which requests may share a step of the engine.

    vLLM's CPU kernels (0.32; vllm-project/vllm pull request 48421) take the slot number -1, which
    means "no adapter", for an index: beside requests with an adapter, one without gets the weights
    of the last slot. Requests without are therefore run apart there.
    """
    without = [at for at, adapter in enumerate(adapters) if adapter is None]
    having = [at for at, adapter in enumerate(adapters) if adapter is not None]
    parts = [having, without] if apart else [list(range(len(adapters)))]
    return [part for part in parts if part]


def _arguments(folder: Path, settings: EngineSettings, readings: Path) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": str(folder),
        "skip_tokenizer_init": True,  # it is given and gives token ids
        "load_format": "safetensors",  # a pickle runs code when it is read
        "generation_config": "vllm",  # and not what a checkpoint ships
        "dtype": settings.dtype,
        "seed": 0,
        "max_logprobs": -1,
        "enforce_eager": settings.device == "cpu",
        "gpu_memory_utilization": settings.memory,
        "enable_prefix_caching": not settings.layers,
        "disable_log_stats": True,
    }
    if settings.rank:
        found |= {
            "enable_lora": True,
            "max_lora_rank": settings.rank,
            "max_loras": settings.adapters,
            "max_cpu_loras": max(32, settings.adapters),
        }
    if settings.layers:
        found["speculative_config"] = {
            "method": "extract_hidden_states",
            "num_speculative_tokens": 1,
            "draft_model_config": {
                "hf_config": {"eagle_aux_hidden_state_layer_ids": list(settings.layers)}
            },
        }
        found["kv_transfer_config"] = {
            "kv_connector": "PoolingConnector",
            "kv_connector_module_path": "afbench.vllm_backend.connector",
            "kv_role": "kv_producer",
            "kv_connector_extra_config": {"folder": str(readings)},
        }
    return found


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set; an engine's process inherits them."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
