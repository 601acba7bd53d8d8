"""Hidden states out of vLLM: a KV connector that pools them where they lie.

With the speculative method `extract_hidden_states` vLLM keeps the residual stream of the layers
asked for in blocks of its KV cache. This connector reads them in the step that computes the last
token of a request's prompt, on the device, and writes nothing but the vectors asked for: no hidden
state of a whole transcript leaves the device unless every token is asked for. The one that vLLM
ships as an example copies all of it through pinned memory, which a machine without GPU has not.

vLLM loads this module by its name into the engine's process; it imports vLLM, unlike the rest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from vllm.config import get_layers_from_vllm_config
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    SupportsHMA,
)
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.model_executor.models.extract_hidden_states import CacheOnlyAttentionLayer

from afbench.models.extraction import Transcript, span
from afbench.vllm_backend.reading import VALUES, Reading

# In the name of the layer that keeps hidden states.
_LAYER: Final = "cache_only_layers"


@dataclass(slots=True)
class _Followed:
    """A request whose prompt is being computed, as the scheduler's side knows it."""

    reading: Reading
    tokens: int
    blocks: list[int]


@dataclass(slots=True)
class _Complete:
    """A request whose prompt is computed when this step ends."""

    reading: Reading
    tokens: int
    blocks: list[int]


@dataclass
class _Step(KVConnectorMetadata):
    complete: list[_Complete] = field(default_factory=list)


class PoolingConnector(KVConnectorBase_V1, SupportsHMA):
    """Pools the hidden states of each request's prompt; see `Reading` for what a request asks.

    One object of it lives beside the scheduler and follows requests and their blocks; one lives
    in each worker and reads the blocks.
    """

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        # Alone in a group, or with attention layers whose blocks are of one size.
        [self._group] = [
            at
            for at, group in enumerate(kv_cache_config.kv_cache_groups)
            if any(_LAYER in name for name in group.layer_names)
        ]
        self._folder = Path(self._kv_transfer_config.get_from_extra_config("folder", ""))
        self._followed: dict[str, _Followed] = {}
        self._cache: torch.Tensor | None = None
        self._writes = False

    # --- beside the scheduler -----------------------------------------------------------------

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int, bool]:
        """Nothing is ever loaded."""
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Nothing is ever loaded."""

    def build_connector_meta(self, scheduler_output: Any) -> _Step:
        """Which requests' prompts are complete after this step, and where they lie."""
        step = _Step()
        scheduled: dict[str, int] = scheduler_output.num_scheduled_tokens
        for new in scheduler_output.scheduled_new_reqs:
            reading = Reading.of(new.sampling_params.extra_args)
            if reading is not None:
                blocks = list(new.block_ids[self._group])
                followed = _Followed(reading, len(new.prompt_token_ids), blocks)
                self._followed[new.req_id] = followed
                self._advance(step, new.req_id, new.num_computed_tokens + scheduled[new.req_id])
        cached = scheduler_output.scheduled_cached_reqs
        for at, request in enumerate(cached.req_ids):
            if request in self._followed:
                self._extend(request, cached.new_block_ids[at], request in cached.resumed_req_ids)
                self._advance(step, request, cached.num_computed_tokens[at] + scheduled[request])
        return step

    def _extend(self, request: str, blocks: Any, resumed: bool) -> None:
        followed = self._followed[request]
        if resumed:
            followed.blocks.clear()
        if blocks is not None:
            followed.blocks += blocks[self._group]

    def _advance(self, step: _Step, request: str, computed: int) -> None:
        followed = self._followed[request]
        if computed >= followed.tokens:
            step.complete.append(_Complete(followed.reading, followed.tokens, followed.blocks))
            del self._followed[request]

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Its blocks may be used again at once: they were read when its prompt was complete."""
        self._followed.pop(request.request_id, None)
        return False, None

    # --- in a worker --------------------------------------------------------------------------

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Find the cache that holds hidden states: [blocks, layers, tokens of a block, d]."""
        layers: dict[str, Any] = get_layers_from_vllm_config(
            self._vllm_config, CacheOnlyAttentionLayer, list(kv_caches)
        )
        [name] = layers
        self._cache = kv_caches[name]
        # Hidden states are the same on every worker of a tensor-parallel group.
        self._writes = get_tensor_model_parallel_rank() == 0

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Nothing is ever loaded."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing is ever loaded."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Hidden states are in the cache by themselves."""

    def wait_for_save(self) -> None:
        """Read what is complete. Called when the step's hidden states are all in the cache."""
        if not self._writes or not self.has_connector_metadata():
            return
        step = self._get_connector_metadata()
        assert isinstance(step, _Step) and self._cache is not None
        for one in step.complete:
            values = read_blocks(self._cache, one.blocks, one.tokens, one.reading)
            path = self._folder / one.reading.file
            save_file({VALUES: values.cpu().contiguous()}, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)


def read_blocks(
    cache: torch.Tensor, blocks: list[int], tokens: int, reading: Reading
) -> torch.Tensor:
    """What a reading asks of the hidden states that lie in some blocks.

    Args:
        cache: [blocks, layers, tokens of a block, d].
        blocks: of the transcript, in its order.
        tokens: of the transcript.

    Returns:
        float32 [P, L, d], or [t, L, d] where no pooling is named.
    """
    size = cache.shape[2]
    layers = torch.tensor(reading.slots, device=cache.device)
    table = torch.tensor(blocks, device=cache.device)

    def at(start: int, stop: int) -> torch.Tensor:
        positions = torch.arange(start, stop, device=cache.device)
        found = cache[table[positions // size][:, None], layers[None], (positions % size)[:, None]]
        return found.float()

    if not reading.poolings:
        return at(0, tokens)
    row = Transcript(range(reading.prompt_tokens), range(tokens - reading.prompt_tokens))
    pooled = []
    for pooling in reading.poolings:
        start, stop = span(row, pooling)
        pooled.append(
            at(start, stop).mean(0) if pooling.endswith("_mean") else at(stop - 1, stop)[0]
        )
    return torch.stack(pooled)
