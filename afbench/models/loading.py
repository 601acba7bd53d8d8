"""From an organism's manifest to a model in memory; a base is loaded once and shared."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import (
    AdapterSource,
    BaseSource,
    FullSource,
    HubSource,
    OrganismManifest,
    PromptedSource,
    VariantSource,
)
from afbench.errors import AfbenchError
from afbench.models.adapters import AdapterHost
from afbench.models.chat import join_prompts
from afbench.models.digests import organism_digest_verified, parent_of, source_folder, verify
from afbench.models.engine import engine_versions
from afbench.models.hub import say_on_stderr
from afbench.models.hub_organisms import OrganismFiles, fetch_organism
from afbench.models.hub_transfer import Announce
from afbench.models.perturbing import Weights, all_weights
from afbench.models.placement import FOUR_BIT, Placement
from afbench.models.rounding import round_weights
from afbench.models.transformers_model import TransformersModel

Organism = Plugin[OrganismManifest]

# Bytes of weights that are held whatever their number: reading them again takes longer.
_SMALL: Final = 256 * 2**20

# Nothing is asked of a hub here, and no code that lies beside a model is run.
_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class _Files:
    """The folder that a pretrained model or tokenizer is read from."""

    location: str


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The parts that organisms made from one another share.

    `origin` is the organism whose full weights these were trained from.
    """

    host: AdapterHost
    tokenizer: PreTrainedTokenizerBase
    adapter: tuple[str, Path] | None = None
    system_prompt: str | None = None
    scale: float = 1.0
    origin: str | None = None

    def select(self) -> None:
        if self.adapter is None:
            self.host.activate(None)
        else:
            self.host.activate(*self.adapter, scale=self.scale)

    def prompted(self, text: str | None) -> _Loaded:
        """The same, with a further system prompt after what is there."""
        return replace(self, system_prompt=join_prompts(self.system_prompt, text) or None)


class ModelStore:
    """Loads organisms; those that differ by an adapter or a prompt share one base in memory.

    Unless it is said, weights are bfloat16 on a GPU and float32 on a CPU.

    Args:
        catalog: where organisms and their parents are looked up.
        default_parent: the organism that prompted organisms without a parent are put on.
        device: default: the GPU if there is one, else the CPU.
        dtype: one of `placement.DTYPES`.
        local_files_only: read hub models from the local cache only (HF_HUB_OFFLINE=1 does the
            same).
        max_bases: the most sets of full weights the store holds on to, unless all of them are
            small (256 MiB together); the one that was not used for longest is let go first.
        max_adapters: the most adapters kept in memory for each base (`AdapterHost`).
        announce: told how much is downloaded, before it is.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        default_parent: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        local_files_only: bool = False,
        max_bases: int = 2,
        max_adapters: int = 1024,
        announce: Announce = say_on_stderr,
    ) -> None:
        self.catalog = catalog
        self.default_parent = default_parent
        self.placement = Placement.of(device, dtype)
        self.local_files_only = local_files_only
        self.max_bases = max_bases
        self.max_adapters = max_adapters
        self.announce = announce
        self._bases: OrderedDict[str, _Loaded] = OrderedDict()

    @property
    def engine(self) -> dict[str, str]:
        """The backend, the versions of its libraries and, unless usual, device and precision."""
        return {"backend": "transformers", **engine_versions(), **self.placement.identity}

    def capabilities(self, plugin: Organism) -> frozenset[str]:
        """What transformers offers for an organism, from its manifest."""
        scalable = has_scalable_weights(plugin, self.catalog)
        return TransformersModel.capabilities | ({"adapter_scaling"} if scalable else set())

    def shape(self, root: Organism) -> tuple[int, int]:
        """Number of layers and width of a base, without loading weights unless a hub has them."""
        if root.manifest.source.type == "hub":
            model = self.load(root)
            return model.n_layers, model.width
        config = AutoConfig.from_pretrained(source_folder(root), local_files_only=True)
        text = config.get_text_config()
        return int(text.num_hidden_layers), int(text.hidden_size)

    def get(self, name: str) -> TransformersModel:
        """The organism of that name.

        A new object with a meter of its own at every call; the weights are shared.

        Raises:
            UnknownNameError: there is no such organism (or parent).
            DigestMismatchError: files are missing or are not the pinned ones.
            AfbenchError: it cannot be loaded.
        """
        return self.load(self.catalog.get("organism", name))

    def load(self, plugin: Organism) -> TransformersModel:
        """As `get`, for a plug-in that need not be in the catalog."""
        digest = organism_digest_verified(plugin, self.catalog, self.default_parent)
        loaded = self._load(plugin)
        return TransformersModel(
            loaded.host.model,
            loaded.tokenizer,
            digest,
            plugin.name,
            system_prompt=loaded.system_prompt,
            select=loaded.select,
            scalable=has_scalable_weights(plugin, self.catalog),
            parent_weights=partial(self._weights_of, loaded.origin) if loaded.origin else None,
        )

    def parent(self, name: str) -> TransformersModel | None:
        """The organism that `name` was made from, or None for a base."""
        above = parent_of(self.catalog.get("organism", name), self.catalog, self.default_parent)
        return None if above is None else self.load(above)

    def clear(self) -> None:
        """Let go of every model; one that a caller still holds stays in memory."""
        self._bases.clear()

    def _load(self, plugin: Organism, bits: int | None = None) -> _Loaded:
        """An organism's parts; `bits` rounds the full weights below it."""
        source = plugin.manifest.source
        if isinstance(source, BaseSource):
            folder = _Files(str(source_folder(plugin)))
            return self._shared(plugin.name, folder, folder, plugin, bits)
        if isinstance(source, FullSource):
            weights = _Files(str(source_folder(plugin)))
            loaded = self._shared(plugin.name, weights, self._root_files(plugin), plugin, bits)
            return replace(loaded, origin=source.parent)
        if isinstance(source, HubSource):
            return self._load_hub(plugin, source, bits)
        parent = parent_of(plugin, self.catalog, self.default_parent)
        assert parent is not None  # only bases and hub models have none
        if isinstance(source, VariantSource):
            return self._variant(plugin, source, self._load(parent, source.bits or bits))
        below = self._load(parent, bits)
        if isinstance(source, PromptedSource):
            return below.prompted(source.system_prompt)
        adapted = self._with_adapter(plugin, below, source_folder(plugin))
        return adapted.prompted(source.system_prompt)

    def _weights_of(self, name: str) -> Weights:
        """The full weights of an organism, without adapters."""
        return all_weights(self._load(self.catalog.get("organism", name)).host.model)

    @staticmethod
    def _variant(plugin: Organism, source: VariantSource, below: _Loaded) -> _Loaded:
        if source.scale is None:
            return below  # its base was rounded when it was loaded
        if below.adapter is None:
            raise AfbenchError(
                "only what an adapter adds can be scaled, and its parent has none",
                where=f"organism '{plugin.name}'",
                fix="name an organism with an adapter as source.parent",
            )
        scaled = replace(below, adapter=(plugin.name, below.adapter[1]), scale=source.scale)
        scaled.select()
        return scaled

    def _load_hub(self, plugin: Organism, source: HubSource, bits: int | None) -> _Loaded:
        found = self._fetch(plugin)
        files = _Files(str(found.model))
        below = self._shared(f"{source.model}@{source.revision}", files, files, plugin, bits)
        return below if found.adapter is None else self._with_adapter(plugin, below, found.adapter)

    def _fetch(self, plugin: Organism) -> OrganismFiles:
        return fetch_organism(
            plugin, local_files_only=self.local_files_only, announce=self.announce
        )

    def _with_adapter(self, plugin: Organism, below: _Loaded, folder: Path) -> _Loaded:
        if below.adapter is not None or below.system_prompt is not None:
            raise AfbenchError(
                "an adapter on an adapted or prompted parent is not supported",
                where=f"organism '{plugin.name}'",
                fix="train it on the base, or merge the parent into full weights",
            )
        tokenizer = below.tokenizer
        if (folder / "tokenizer_config.json").is_file():
            tokenizer = self._tokenizer(plugin, _Files(str(folder)))
            if not tokenizer.chat_template:  # saved without one, as it is the base's
                tokenizer.chat_template = below.tokenizer.chat_template
        loaded = _Loaded(below.host, tokenizer, (plugin.name, folder))
        loaded.select()  # so that an adapter that does not fit fails here
        return loaded

    def _root_files(self, plugin: Organism) -> _Files:
        """Where the config and tokenizer of a full fine-tune come from: the base at its root."""
        source = plugin.manifest.source
        if isinstance(source, HubSource):
            return _Files(str(self._fetch(plugin).model))
        if isinstance(source, BaseSource):
            verify(plugin)
            return _Files(str(source_folder(plugin)))
        parent = parent_of(plugin, self.catalog, self.default_parent)
        assert parent is not None  # only bases and hub models have none
        return self._root_files(parent)

    def _shared(
        self, key: str, weights: _Files, root: _Files, plugin: Organism, bits: int | None
    ) -> _Loaded:
        """A base: from memory, or from its files."""
        if bits is not None:
            key = f"{key} at {bits} bits"
        if key not in self._bases:
            while len(self._bases) >= self.max_bases and self._held_bytes() > _SMALL:
                self._bases.popitem(last=False)  # before loading, as both may not fit
            model = self._weights(plugin, weights, root)
            if bits is not None:
                round_weights(model, bits)
            tokenizer = self._tokenizer(plugin, root)
            self._bases[key] = _Loaded(AdapterHost(model, self.max_adapters), tokenizer)
        self._bases.move_to_end(key)
        return self._bases[key]

    def _held_bytes(self) -> int:
        models = (loaded.host.model for loaded in self._bases.values())
        return sum(part.nbytes for model in models for part in model.parameters())

    def _weights(self, plugin: Organism, weights: _Files, root: _Files) -> PreTrainedModel:
        with readable_failure(plugin, weights.location), _no_progress_bar():
            config = AutoConfig.from_pretrained(root.location, **_LOCAL)
            read: Any = AutoModelForCausalLM.from_pretrained
            model, report = read(
                weights.location,
                config=config,
                # Of the root, as a full fine-tune brings weights only.
                generation_config=generation_config(root.location, config),
                **self.placement.load_options(),
                use_safetensors=True,
                output_loading_info=True,
                **_LOCAL,
            )
        wrong = [
            f"{what.replace('_', ' ')}: {min(map(str, report[what]))}"
            for what in ("missing_keys", "mismatched_keys")
            if report.get(what)
        ]
        if wrong:
            raise AfbenchError(
                f"the weights do not fit the model's config ({wrong[0]})",
                where=f"organism '{plugin.name}'",
            )
        if self.placement.dtype != FOUR_BIT:  # those were put there as they were rounded
            model = model.to(self.placement.device)
        loaded: PreTrainedModel = model.eval()
        return loaded.requires_grad_(False)

    @staticmethod
    def _tokenizer(plugin: Organism, files: _Files) -> PreTrainedTokenizerBase:
        with readable_failure(plugin, files.location):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                files.location, **_LOCAL
            )
        return tokenizer


def has_scalable_weights(plugin: Organism, catalog: Catalog) -> bool:
    """Whether an organism differs from its parent in weights, so that the difference can be scaled.

    From manifests alone. A prompt has no weights, and a base no parent; an adapter's delta is its
    own, and full weights are compared with those of a base.
    """
    source = plugin.manifest.source
    if isinstance(source, VariantSource):
        return has_scalable_weights(catalog.get("organism", source.parent), catalog)
    if isinstance(source, FullSource):
        above = catalog.get("organism", source.parent).manifest.source
        return isinstance(above, BaseSource | FullSource)
    return isinstance(source, AdapterSource) or (
        isinstance(source, HubSource) and source.adapter is not None
    )


def load_model(plugin: Organism, catalog: Catalog) -> TransformersModel:
    """Load one organism, sharing nothing; use a `ModelStore` for several.

    Raises:
        DigestMismatchError, AfbenchError: as `ModelStore.get`.
    """
    return ModelStore(catalog).load(plugin)


def generation_config(folder: str | Path, config: PreTrainedConfig) -> GenerationConfig:
    """What a checkpoint says of its end tokens; many ship no generation config."""
    kind: Any = GenerationConfig
    try:
        found: GenerationConfig = kind.from_pretrained(folder, local_files_only=True)
    except OSError:
        found = kind.from_model_config(config)
    return found


@contextmanager
def readable_failure(plugin: Organism, what: str) -> Iterator[None]:
    """Turn what the libraries raise for absent or malformed files into one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise AfbenchError(
            f"cannot load {what}: {first[0]}",
            where=f"organism '{plugin.name}'",
            fix="check the id, revision and network, or the files in its folder",
        ) from error


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
