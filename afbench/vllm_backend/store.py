"""From an organism's manifest to a model on a vLLM engine; organisms of one base share it."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError
from afbench.messages import Conversation
from afbench.models.digests import organism_digest_verified
from afbench.models.engine import engine_versions
from afbench.models.generation import declared_ends
from afbench.models.hub import say_on_stderr
from afbench.models.hub_organisms import OrganismFiles, fetch_organism
from afbench.models.hub_transfer import Announce
from afbench.models.interface import Generation, GenerationSettings
from afbench.models.loading import generation_config, readable_failure
from afbench.models.placement import FOUR_BIT, Placement
from afbench.vllm_backend.adapters import rank_of, rounded_rank
from afbench.vllm_backend.availability import (
    check_architecture,
    reads_hidden_states,
    require_vllm,
)
from afbench.vllm_backend.engine import Engine, EngineSettings
from afbench.vllm_backend.model import Identity, VllmModel, capabilities
from afbench.vllm_backend.parts import Organism, Parts, adapter_folder, model_folder, parts_of

_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
# Shares of a GPU's memory: the engine that generates, and the one that keeps hidden states.
_WRITER_MEMORY, _READER_MEMORY = 0.55, 0.35


@dataclass(frozen=True, slots=True)
class Request:
    """Replies that are wanted of one organism."""

    organism: str
    conversations: Sequence[Conversation]
    settings: GenerationSettings


class VllmStore:
    """Gives organisms on vLLM; implements `ModelSource`.

    A base has up to two engines, each begun when it is first needed: one generates and scores, with
    every organism of the base as a LoRA adapter; the other keeps hidden states. Close the store,
    or leave its context, to end them.

    Args:
        catalog: where organisms and their parents are looked up.
        default_parent: the organism that prompted organisms without a parent are put on.
        placement: where models run, and in which precision.
        local_files_only: read hub models from the local cache only.
        max_bases: the most bases with engines; the one that was not used for longest is ended.
        max_adapters: the most adapters that answer in one step of an engine.
        announce: told how much is downloaded, before it is.

    Raises:
        AfbenchError: vLLM is not installed.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        default_parent: str | None = None,
        placement: Placement | None = None,
        local_files_only: bool = False,
        max_bases: int = 2,
        max_adapters: int = 8,
        announce: Announce = say_on_stderr,
    ) -> None:
        self._version = require_vllm()
        self.catalog, self.default_parent = catalog, default_parent
        self.placement = placement or Placement.of()
        if self.placement.dtype == FOUR_BIT:
            raise AfbenchError(
                "4-bit weights are rounded on the transformers backend only",
                where="--dtype",
                fix="use --backend transformers, or a checkpoint that ships them",
            )
        self.max_bases, self.max_adapters = max_bases, max_adapters
        self._local, self._announce = local_files_only, announce
        self._engines: OrderedDict[str, dict[str, Engine]] = OrderedDict()
        self._scratch = tempfile.TemporaryDirectory(prefix="afbench-vllm-")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every engine."""
        while self._engines:
            self._end(next(iter(self._engines)))
        self._scratch.cleanup()

    @property
    def engine(self) -> dict[str, str]:
        """The backend, the versions of its libraries and, unless usual, device and precision."""
        return {
            **engine_versions(),
            "backend": "vllm",
            "vllm": self._version,
            **self.placement.identity,
        }

    def get(self, name: str) -> VllmModel:
        """The organism of that name, with a meter of its own.

        Raises:
            UnknownNameError: there is no such organism (or parent).
            DigestMismatchError: files are missing or are not the pinned ones.
            AfbenchError: it cannot be run on vLLM.
        """
        return self.load(self.catalog.get("organism", name))

    def load(self, plugin: Organism) -> VllmModel:
        """As `get`, for a plug-in that need not be in the catalog."""
        digest = organism_digest_verified(plugin, self.catalog, self.default_parent)
        parts = self._parts(plugin)
        config = self._config(plugin, parts)
        architecture = _architecture(config)
        check_architecture(architecture, plugin.name)
        tokenizer = self._tokenizer(plugin, parts)
        rank, adapter = 0, None
        if parts.adapter is not None:
            rank = rank_of(plugin.name, parts.adapter, parts.weights)
            adapter = (digest, adapter_folder(parts, self._folder))
        text = config.get_text_config()
        declared = generation_config(parts.root, config)
        identity = Identity(
            name=plugin.name,
            digest=digest,
            base=parts.base_key,
            n_layers=int(text.num_hidden_layers),
            width=int(text.hidden_size),
            vocabulary=int(text.vocab_size),
            max_length=getattr(text, "max_position_embeddings", None),
            ends=declared_ends(declared, tokenizer),
            adapter=adapter,
            readable=reads_hidden_states(architecture),
        )
        layers = tuple(range(identity.n_layers + 1))
        return VllmModel(
            identity,
            tokenizer,
            parts.system_prompt,
            writer=partial(self._engine, parts, rank, ()),
            reader=partial(self._engine, parts, rank, layers),
        )

    def capabilities(self, plugin: Organism) -> frozenset[str]:
        """What vLLM offers for an organism."""
        config = self._config(plugin, self._parts(plugin))
        return capabilities(reads_hidden_states(_architecture(config)))

    def shape(self, root: Organism) -> tuple[int, int]:
        """Number of layers and width of a base, from its config."""
        text = self._config(root, self._parts(root)).get_text_config()
        return int(text.num_hidden_layers), int(text.hidden_size)

    def generate_together(self, requests: Sequence[Request]) -> list[list[Generation]]:
        """Replies of several organisms of one base, in the same steps of one engine.

        Returns:
            For each request its replies, in the order given.

        Raises:
            AfbenchError: as `get` and `VllmModel.generate`, or the organisms have several bases.
        """
        if not requests:
            return []
        loaded = {name: self.get(name) for name in dict.fromkeys(r.organism for r in requests)}
        models = [loaded[one.organism] for one in requests]
        rows: list[list[int]] = []
        asked: list[dict[str, Any]] = []
        adapters: list[tuple[str, Path] | None] = []
        for model, one in zip(models, requests, strict=True):
            plan = model.plan_batches(one.conversations, one.settings)
            seeds = {at: (b, row) for b, part in enumerate(plan) for row, at in enumerate(part)}
            own = model.chat.prompts(one.conversations, reasoning=one.settings.reasoning)
            rows += own
            asked += [model.sampling(one.settings, *seeds[at]) for at in range(len(own))]
            adapters += [model.identity.adapter] * len(own)
        answers = iter(_one_engine(models).ask(rows, asked, adapters))
        return [
            [model.read(next(answers), one.settings) for _ in one.conversations]
            for model, one in zip(models, requests, strict=True)
        ]

    # --- engines ------------------------------------------------------------------------------

    def _engine(self, parts: Parts, rank: int, layers: tuple[int, ...]) -> Engine:
        """A base's engine of one kind: one that runs, or a new one."""
        key, kind = parts.base_key, "reader" if layers else "writer"
        engines = self._engines.setdefault(key, {})
        self._engines.move_to_end(key)
        while len(self._engines) > self.max_bases:
            self._end(next(iter(self._engines)))
        running = engines.get(kind)
        if running is not None and rank <= running.settings.rank:
            return running
        if running is not None:  # an adapter of a higher rank needs another engine
            engines.pop(kind).close()
        settings = EngineSettings(
            device=self.placement.device,
            dtype=self.placement.dtype,
            rank=max(rounded_rank(rank), running.settings.rank if running else 0),
            adapters=self.max_adapters,
            layers=layers,
            memory=_READER_MEMORY if layers else _WRITER_MEMORY,
        )
        engines[kind] = Engine(model_folder(parts, self._folder), settings)
        return engines[kind]

    def _end(self, key: str) -> None:
        for engine in self._engines.pop(key).values():
            engine.close()

    # --- files --------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return Path(self._scratch.name)

    def _parts(self, plugin: Organism) -> Parts:
        return parts_of(plugin, self.catalog, self.default_parent, self._fetch)

    def _fetch(self, plugin: Organism) -> OrganismFiles:
        return fetch_organism(plugin, local_files_only=self._local, announce=self._announce)

    @staticmethod
    def _config(plugin: Organism, parts: Parts) -> PreTrainedConfig:
        with readable_failure(plugin, str(parts.root)):
            config: PreTrainedConfig = AutoConfig.from_pretrained(parts.root, **_LOCAL)
        return config

    @staticmethod
    def _tokenizer(plugin: Organism, parts: Parts) -> PreTrainedTokenizerBase:
        with readable_failure(plugin, str(parts.root)):
            base: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(parts.root, **_LOCAL)
            if parts.adapter is None or not (parts.adapter / "tokenizer_config.json").is_file():
                return base
            own: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(parts.adapter, **_LOCAL)
        if not own.chat_template:  # saved without one, as it is the base's
            own.chat_template = base.chat_template
        return own


def _architecture(config: PreTrainedConfig) -> str:
    return next(iter(config.architectures or ()), "")


def _one_engine(models: Sequence[VllmModel]) -> Engine:
    """The engine that can run all of them.

    Raises:
        AfbenchError: there is none, as they have several bases.
    """
    if len({model.identity.base for model in models}) > 1:
        raise AfbenchError(
            "organisms of several bases cannot be run together",
            where=", ".join(model.name for model in models),
            fix="ask for those of each base by themselves",
        )
    # An adapter of a higher rank than the engine was begun with is given another one; the first
    # engine asked for may be gone after the last is.
    for model in models:
        engine = model.writer()
    return engine
