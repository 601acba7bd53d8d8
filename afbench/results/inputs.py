"""What a run reads, resolved and digested: one function gives a run its identity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afbench.cases.splits import Fold, Member, check_split, folds_for, folds_for_all
from afbench.certification.certificate import certificate_status
from afbench.detection.loading import detector_digest
from afbench.environments import Environment
from afbench.errors import AfbenchError
from afbench.models.digests import organism_digest_verified
from afbench.models.engine import engine_versions
from afbench.results.record import Inputs, RunSettings
from afbench.store import digest_of

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog, Plugin
    from afbench.catalog.manifests import DetectorManifest, OrganismManifest

ALL = "all"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run needs, looked up and verified before anything is computed."""

    id: str
    settings: RunSettings
    inputs: Inputs
    folds: tuple[Fold, ...]
    organisms: dict[str, Plugin[OrganismManifest]]
    environments: dict[str, Environment]
    detectors: tuple[Plugin[DetectorManifest], ...]

    @property
    def fit_organisms(self) -> set[str]:
        """Organisms that some fold fits on."""
        return {name for fold in self.folds for name in fold.fit}

    @property
    def test_organisms(self) -> set[str]:
        """Organisms that some fold tests."""
        return {name for fold in self.folds for name in fold.test}

    def environment_of(self, organism: str) -> Environment:
        """The home environment of an organism."""
        return self.environments[self.organisms[organism].manifest.environment or ""]


def make_plan(settings: RunSettings, catalog: Catalog) -> Plan:
    """Resolve names, verify weights and lay out the folds.

    Raises:
        UnknownNameError: an organism, detector, environment or split is unknown.
        DigestMismatchError: weights are missing or corrupted.
        NotEnoughCasesError: a fold cannot be formed.
        AfbenchError: the organism asked for cannot be a target.
    """
    split = check_split(settings.split)
    detectors = resolve_detectors(settings, catalog)
    zoo = zoo_members(catalog)
    if settings.organism == ALL:
        folds = folds_for_all(zoo, split)
    else:
        folds = folds_for(_target(settings.organism, catalog), zoo, split)
    used = sorted({name for fold in folds for name in (*fold.fit, *fold.test)})
    organisms = {name: catalog.get("organism", name) for name in used}
    environments = {
        name: Environment.load(catalog.get("environment", name))
        for name in sorted({plugin.manifest.environment or "" for plugin in organisms.values()})
    }
    inputs = Inputs(
        organisms={
            name: organism_digest_verified(plugin, catalog) for name, plugin in organisms.items()
        },
        environments={name: environment.digest for name, environment in environments.items()},
        detectors=_detector_digests(detectors),
        certificates={
            name: certificate_status(plugin, catalog) for name, plugin in organisms.items()
        },
        versions=engine_versions(),
    )
    return Plan(
        id=run_identity(settings, inputs, folds),
        settings=settings,
        inputs=inputs,
        folds=tuple(folds),
        organisms=organisms,
        environments=environments,
        detectors=tuple(detectors),
    )


def run_identity(settings: RunSettings, inputs: Inputs, folds: Sequence[Fold]) -> str:
    """The identity of a run cell, the same before and after the run: 16 hex digits."""
    digest = digest_of(
        {
            "settings": settings.model_dump(mode="json"),
            "inputs": inputs.model_dump(mode="json"),
            "folds": [[fold.name, fold.fit, fold.test] for fold in folds],
        }
    )
    return digest.removeprefix("sha256:")[:16]


def resolve_detectors(settings: RunSettings, catalog: Catalog) -> list[Plugin[DetectorManifest]]:
    """The detectors asked for, then every floor unless floors are off.

    Raises:
        UnknownNameError: one is unknown.
    """
    if settings.detectors == [ALL]:
        asked = [p for p in catalog.detectors.values() if not p.manifest.floor]
    else:
        asked = [catalog.get("detector", name) for name in dict.fromkeys(settings.detectors)]
    if not settings.floors:
        return asked
    names = {plugin.name for plugin in asked}
    floors = sorted(name for name, p in catalog.detectors.items() if p.manifest.floor)
    return asked + [catalog.detectors[name] for name in floors if name not in names]


def zoo_members(catalog: Catalog) -> list[Member]:
    """Every faker and lookalike that is not known to have failed certification."""
    return [
        member_of(plugin)
        for _, plugin in sorted(catalog.organisms.items())
        if plugin.manifest.role != "base"
        and _can_run(plugin)
        and certificate_status(plugin, catalog) != "failed"
    ]


def member_of(plugin: Plugin[OrganismManifest]) -> Member:
    """What a split needs to know of an organism."""
    manifest = plugin.manifest
    return Member(
        name=plugin.name,
        environment=manifest.environment or "",
        family=manifest.recipe_family or "",
        seed=manifest.seed,
        faker=manifest.role == "faker",
    )


def _can_run(plugin: Plugin[OrganismManifest]) -> bool:
    """A prompted organism without a parent runs only where a model is named."""
    source = plugin.manifest.source
    return not (source.type == "prompted" and source.parent is None)


def _target(name: str, catalog: Catalog) -> Member:
    plugin = catalog.get("organism", name)
    if plugin.manifest.role != "faker":
        raise AfbenchError(
            f"'{name}' is a {plugin.manifest.role}: a run scores a faker against its lookalikes",
            where="--organism",
            fix="name a faker ('afbench list organisms' shows the roles), or 'all'",
        )
    return member_of(plugin)


def _detector_digests(detectors: Iterable[Plugin[DetectorManifest]]) -> dict[str, str]:
    return {plugin.name: detector_digest(plugin) for plugin in detectors}
