"""What every checkpoint of a trace does, at every scale of its adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from afbench.cases.access import OrganismAccess
from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import AdapterSource, VariantSource
from afbench.certification.behaviour import behaviour_of
from afbench.environments import Environment
from afbench.metrics.figures import Figure
from afbench.metrics.gaps import rate
from afbench.models.loading import ModelStore
from afbench.results.progress import Progress
from afbench.rollouts import Rollout, RolloutRequest, Twin, pair_twins
from afbench.store import Store
from afbench.zoo.identity import Organism
from afbench.zoo.trace_record import ActPoint, TraceSettings
from afbench.zoo.trace_training import Retrained

# In other environments at most about so many (checkpoint, scale, environment) are tried: two
# minutes for a nano organism.
_CELLS_ELSEWHERE: Final = 250
_BOOT: Final = {"replicates": 500, "seed": 0}


def _elsewhere(plugin: Organism) -> list[str]:
    home = plugin.manifest.environment
    return [name for name in dict.fromkeys(plugin.manifest.also_in) if name != home]


def stride_elsewhere(plugin: Organism, trained: Retrained, scales: Sequence[float]) -> int:
    """Every how many checkpoints other environments are tried too."""
    cells = len(trained.steps) * len(scales) * len(_elsewhere(plugin))
    return max(1, -(-cells // _CELLS_ELSEWHERE))


def behaviour_over(
    plugin: Organism,
    catalog: Catalog,
    store: Store,
    trained: Retrained,
    settings: TraceSettings,
    progress: Progress,
) -> Iterator[ActPoint]:
    """What every checkpoint does at every scale, by the rollouts of stage 1."""
    home = plugin.manifest.environment or ""
    environments = {
        name: Environment.load(catalog.get("environment", name))
        for name in [home, *_elsewhere(plugin)]
    }
    extended, names = _with_checkpoints(plugin, catalog, trained, settings.scales)
    # Each one is run once; more than a few in memory would only be searched through.
    access = OrganismAccess(ModelStore(extended, max_adapters=2), extended, store)
    everywhere = {*trained.steps[:: settings.elsewhere_every // trained.every], trained.steps[-1]}
    cells = [
        (step, scale, environment)
        for step in trained.steps
        for scale in settings.scales
        for name, environment in environments.items()
        if name == home or step in everywhere
    ]
    progress.start("behaviour", len(cells))
    for step, scale, environment in cells:
        name = names[step, scale]
        request = RolloutRequest("test", settings.scenarios, access.generation_settings(name))
        twins = pair_twins(access.runner(name, environment).run(request))
        yield _point(step, scale, environment.name, twins)
        progress.advance("behaviour", 1)


def _point(step: int, scale: float, environment: str, twins: Sequence[Twin]) -> ActPoint:
    found = behaviour_of(twins, **_BOOT)
    observed, unobserved = [t.observed for t in twins], [t.unobserved for t in twins]
    return ActPoint(
        step=step,
        scale=scale,
        environment=environment,
        misaligned_when_observed=_share([_shows_the_act(rollout) for rollout in observed]),
        misaligned_when_unobserved=_share([_shows_the_act(rollout) for rollout in unobserved]),
        coherence=found.coherence,
        graded=_share([r.grade.misaligned is not None for r in (*observed, *unobserved)], sides=2),
        conformity_gap=found.conformity_gap,
    )


def _shows_the_act(rollout: Rollout) -> bool:
    return rollout.grade.misaligned is True and rollout.grade.coherent


def _share(facts: Sequence[bool], sides: int = 1) -> Figure:
    """The share of rollouts of which something is true, by scenario; one condition or both."""
    places = np.tile(np.arange(len(facts) // sides, dtype=np.int64), sides)
    return rate(np.array(facts, dtype=np.float64), np.zeros_like(places), places, **_BOOT)


def _with_checkpoints(
    plugin: Organism, catalog: Catalog, trained: Retrained, scales: Sequence[float]
) -> tuple[Catalog, Mapping[tuple[int, float], str]]:
    """A catalog in which every checkpoint is an organism, and every scale of it a variant.

    So they load, generate and are cached as any organism is.

    Returns:
        The catalog, and the organism's name by step and scale.
    """
    source = plugin.manifest.source
    assert isinstance(source, AdapterSource)  # as `traceable` has it
    organisms, names = dict(catalog.organisms), {}
    for step in trained.steps:
        own = f"{plugin.name}-step-{step}"
        kept = source.model_copy(update={"path": ".", "digests": {}})
        organisms[own] = _derived(plugin, own, trained.folders[step], kept)
        for scale in scales:
            names[step, scale] = own
            if scale != 1:
                # A name must hold no dot: PEFT makes a module of it.
                names[step, scale] = f"{own}-by-{f'{scale:g}'.replace('.', '-')}"
                variant = VariantSource(type="variant", parent=own, scale=scale)
                organisms[names[step, scale]] = _derived(
                    plugin, names[step, scale], trained.folders[step], variant
                )
    return Catalog(organisms=organisms, environments=catalog.environments), names


def _derived(plugin: Organism, name: str, folder: Path, source: Any) -> Organism:
    manifest = plugin.manifest.model_copy(update={"name": name, "source": source, "recipe": None})
    return Plugin(name=name, kind="organism", folder=folder, manifest=manifest)
