"""Access to organisms for the host: rollout runners, and handles for detectors.

A model is loaded when something has to be computed; digests are enough while the cache answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from afbench.cases.cue_guard import CueGuard
from afbench.cases.handle import Handle
from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import DetectorManifest, OrganismManifest, PromptedSource
from afbench.environments import Cue, Environment
from afbench.environments.scenarios import load_cues
from afbench.errors import AfbenchError
from afbench.models.digests import organism_digest, parent_of
from afbench.models.interface import GenerationSettings, Meter
from afbench.models.sources import BatchedModel, ModelSource
from afbench.rollouts import RolloutRunner
from afbench.store import Store

# A manifest's default suits models of the zoo, which are terse; a chat model on a user's prompt
# would be cut off before it has said whether it complies.
MODEL_TOKENS = 200


def runs_on_any_model(manifest: OrganismManifest) -> bool:
    """Whether an organism is a system prompt without a parent, for a model that a user names."""
    return isinstance(manifest.source, PromptedSource) and manifest.source.parent is None


def root_of(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None = None
) -> Plugin[OrganismManifest]:
    """The base or hub model at the end of an organism's parents; itself, if it has none.

    Raises:
        AfbenchError: as `parent_of`, or organisms are each other's parents.
    """
    seen: list[str] = []
    above = parent_of(plugin, catalog, default_parent)
    while above is not None:
        seen.append(plugin.name)
        if above.name in seen:
            raise AfbenchError(f"organisms are each other's parents: {' -> '.join(seen)}")
        plugin, above = above, parent_of(above, catalog, default_parent)
    return plugin


class OrganismAccess:
    """Rollout runners and handles of organisms, over one model store and one cache.

    Args:
        models: gives organisms, on whichever backend.
        catalog: where organisms are looked up.
        store: the cache.
    """

    def __init__(self, models: ModelSource, catalog: Catalog, store: Store) -> None:
        self._models, self._catalog, self._store = models, catalog, store
        self._open: dict[str, BatchedModel] = {}
        self._digests: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, int]] = {}
        self._cues: dict[str, tuple[Cue, ...]] = {}
        self._guards: dict[tuple[frozenset[str], tuple[str, ...]], CueGuard] = {}
        self._engine = models.engine

    @property
    def default_parent(self) -> str | None:
        """The organism that prompted organisms without a parent are put on."""
        return self._models.default_parent

    @property
    def engine(self) -> dict[str, str]:
        """What computes: the backend, the versions of its libraries and, if no CPU, the device."""
        return dict(self._engine)

    @property
    def computed_forward_tokens(self) -> int:
        """Tokens that models read in this process: zero when the cache answered everything."""
        return self.computed.forward_tokens

    @property
    def computed(self) -> Meter:
        """What models were made to do in this process."""
        meters = [model.meter for model in self._open.values()]
        return Meter(
            calls=sum(meter.calls for meter in meters),
            forward_tokens=sum(meter.forward_tokens for meter in meters),
            generated_tokens=sum(meter.generated_tokens for meter in meters),
        )

    def model(self, name: str) -> BatchedModel:
        """The model of an organism; one object for each, so that its meter counts on."""
        if name not in self._open:
            self._open[name] = self._models.get(name)
        return self._open[name]

    def runner(self, name: str, environment: Environment) -> RolloutRunner:
        """The rollout runner of an organism in an environment."""
        return RolloutRunner(
            partial(self.model, name), self.digest(name), self._engine, environment, self._store
        )

    def generation_settings(
        self,
        name: str,
        *,
        seed: int = 0,
        temperature: float = 0.0,
        reasoning: bool | None = None,
    ) -> GenerationSettings:
        """How an organism is sampled; its manifest's reasoning mode unless one is given."""
        manifest = self._catalog.get("organism", name).manifest
        declared = manifest.generation
        tokens = declared.max_new_tokens
        if runs_on_any_model(manifest):
            tokens = max(tokens, MODEL_TOKENS)
        return GenerationSettings(
            max_new_tokens=tokens,
            temperature=temperature,
            seed=seed if temperature > 0 else 0,
            reasoning=declared.reasoning if reasoning is None else reasoning,
        )

    def handles(self, detector: DetectorManifest, names: Iterable[str]) -> dict[str, Handle]:
        """A fresh handle on each organism for one detector; their spending starts at zero.

        Unless it is a ceiling, none of them samples where an unobserved cue stands: one of any
        organism's environments here, as a detector that sees contrasts knows them all.
        """
        wanted = list(dict.fromkeys(names))
        places = frozenset(place for name in wanted for place in self._places_of(name))
        return {name: self._handle(detector, name, places) for name in wanted}

    def _handle(self, detector: DetectorManifest, name: str, places: frozenset[str]) -> Handle:
        plugin = self._catalog.get("organism", name)
        parent = parent_of(plugin, self._catalog, self.default_parent)
        allowed = parent is not None and detector.needs_parent
        return Handle(
            partial(self.model, name),
            digest=self._identity(name),
            tier=detector.tier,
            store=self._store,
            shape=self.shape(name),
            capabilities=self.capabilities(name),
            open_parent=partial(self.model, parent.name) if parent and allowed else None,
            parent_digest=self._identity(parent.name) if parent and allowed else None,
            guard=None if detector.ceiling else self._guard(places, self._places_of(name)),
        )

    def capabilities(self, name: str) -> frozenset[str]:
        """What the backend offers for an organism."""
        return self._models.capabilities(self._catalog.get("organism", name))

    def _places_of(self, name: str) -> tuple[str, ...]:
        """The environments of an organism; one that is not installed shows nobody its cues."""
        manifest = self._catalog.get("organism", name).manifest
        declared = dict.fromkeys([manifest.environment, *manifest.also_in])
        return tuple(place for place in declared if place in self._catalog.environments and place)

    def _guard(self, places: frozenset[str], own: tuple[str, ...]) -> CueGuard:
        """Refuses the unobserved cues of all places; an organism's own observed ones may stand."""
        if (places, own) not in self._guards:
            hidden = [cue.unobserved for place in places for cue in self._cues_of(place)]
            shown = [cue.observed for place in own for cue in self._cues_of(place)]
            self._guards[places, own] = CueGuard(hidden, shown)
        return self._guards[places, own]

    def _cues_of(self, place: str) -> tuple[Cue, ...]:
        if place not in self._cues:
            plugin = self._catalog.get("environment", place)
            self._cues[place] = load_cues(plugin.folder / plugin.manifest.cues)
        return self._cues[place]

    def digest(self, name: str) -> str:
        """Identity of an organism's weights; its files are read once."""
        if name not in self._digests:
            plugin = self._catalog.get("organism", name)
            self._digests[name] = organism_digest(plugin, self._catalog, self.default_parent)
        return self._digests[name]

    def _identity(self, name: str) -> str:
        """What a cached answer depends on: the weights and what computes with them."""
        return f"{self.digest(name)} {sorted(self._engine.items())}"

    def shape(self, name: str) -> tuple[int, int]:
        """Number of layers and width, read from the root's config without loading weights."""
        plugin = self._catalog.get("organism", name)
        root = root_of(plugin, self._catalog, self.default_parent)
        if root.name not in self._shapes:
            self._shapes[root.name] = self._models.shape(root)
        return self._shapes[root.name]
