"""What a run reads, resolved and digested: one function gives a run its identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.cases.splits import (
    Fold,
    Layout,
    SplitName,
    check_split,
    evading_folds,
    folds_for,
    folds_for_all,
)
from afbench.certification.certificate import certificate_status
from afbench.detection.loading import detector_digest
from afbench.environments import Environment
from afbench.errors import AfbenchError, NotEnoughCasesError
from afbench.models.digests import organism_digest_verified, parent_of
from afbench.models.engine import engine_versions
from afbench.results.record import Inputs, RunSettings
from afbench.results.saved import Saved, is_saved, read_saved
from afbench.results.zoo import Zoo, base_of, member_of, target_of, zoo_of
from afbench.store import digest_of

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog, Plugin
    from afbench.catalog.manifests import DetectorManifest, OrganismManifest
    from afbench.models.user_model import UserModel

ALL = "all"
Folds = tuple[Fold, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run needs, looked up and verified before anything is computed.

    Attributes:
        folds: of the headline.
        robustness: the folds of each evasion.
        left_out: a line for each cell without a fold.
        bases: the base of each organism.
        default_parent: the organism that prompted ones are put on: the user's model, or None.
        without_parent: organisms that were made from no other.
        saved: detectors that were fitted before, by name; they are not fitted again.
    """

    id: str
    settings: RunSettings
    inputs: Inputs
    folds: Folds
    organisms: dict[str, Plugin[OrganismManifest]]
    environments: dict[str, Environment]
    detectors: tuple[Plugin[DetectorManifest], ...]
    robustness: dict[str, Folds] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    bases: dict[str, str] = field(default_factory=dict)
    default_parent: str | None = None
    without_parent: frozenset[str] = frozenset()
    saved: dict[str, Saved] = field(default_factory=dict)

    @property
    def every_fold(self) -> Folds:
        """Folds of the headline, then those of each evasion."""
        return (*self.folds, *(fold for folds in self.robustness.values() for fold in folds))

    @property
    def fit_organisms(self) -> set[str]:
        """Organisms that some fold fits on."""
        return {name for fold in self.every_fold for name in fold.fit}

    @property
    def test_organisms(self) -> set[str]:
        """Organisms that some fold tests."""
        return {name for fold in self.every_fold for name in fold.test}

    def environment_of(self, organism: str) -> Environment:
        """The home environment of an organism."""
        return self.environments[self.organisms[organism].manifest.environment or ""]


def make_plan(
    settings: RunSettings,
    catalog: Catalog,
    model: UserModel | None = None,
    engine: Mapping[str, str] | None = None,
) -> Plan:
    """Resolve names, verify weights and lay out the folds.

    Args:
        catalog: holds the user's model, if there is one.
        engine: what runs models, as far as it is not the usual.

    Raises:
        UnknownNameError: an organism, detector, environment or split is unknown.
        DigestMismatchError: weights are missing or corrupted, or a saved detector is.
        NotEnoughCasesError: no fold can be formed.
        AfbenchError: the organism asked for cannot be a target, or be put on the user's model; or
            a saved detector may not be tested so.
    """
    split = check_split(settings.split)
    settings, saved = _with_saved(settings, catalog)
    detectors = resolve_detectors(settings, catalog, saved)
    default_parent = model.plugin.name if model else None
    layout, robustness = _lay_out(settings, split, catalog, default_parent)
    plan = plan_over(settings, catalog, detectors, layout, robustness, model, saved, engine)
    for one in saved.values():
        for fold in plan.every_fold:
            members = [member_of(plan.organisms[n], catalog, default_parent) for n in fold.test]
            one.check_split(members, split)
    return plan


def plan_over(
    settings: RunSettings,
    catalog: Catalog,
    detectors: Sequence[Plugin[DetectorManifest]],
    layout: Layout,
    robustness: Mapping[str, Layout] | None = None,
    model: UserModel | None = None,
    saved: Mapping[str, Saved] | None = None,
    engine: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of some detectors on folds that are laid out already; weights are verified.

    Raises:
        UnknownNameError: an organism's environment is unknown.
        DigestMismatchError: weights are missing or corrupted.
    """
    default_parent = model.plugin.name if model else None
    kinds = {kind: found.folds for kind, found in (robustness or {}).items() if found.folds}
    every = [*layout.folds, *(fold for folds in kinds.values() for fold in folds)]
    used = sorted({name for fold in every for name in (*fold.fit, *fold.test)})
    organisms = {name: catalog.get("organism", name) for name in used}
    environments = {
        name: Environment.load(catalog.get("environment", name))
        for name in sorted({plugin.manifest.environment or "" for plugin in organisms.values()})
    }
    inputs = Inputs(
        model=model.identity if model else None,
        organisms={
            name: organism_digest_verified(plugin, catalog, default_parent)
            for name, plugin in organisms.items()
        },
        environments={name: environment.digest for name, environment in environments.items()},
        detectors={
            **_detector_digests(detectors),
            **{name: one.about.detector_digest for name, one in (saved or {}).items()},
        },
        certificates={
            name: certificate_status(plugin, catalog, default_parent)
            for name, plugin in organisms.items()
        },
        versions={**engine_versions(), **(engine or {})},
        saved={name: one.about.digest for name, one in (saved or {}).items()},
    )
    return Plan(
        id=run_identity(settings, inputs, layout.folds, kinds),
        settings=settings,
        inputs=inputs,
        folds=layout.folds,
        organisms=organisms,
        environments=environments,
        detectors=tuple(detectors),
        robustness=kinds,
        left_out=(
            *layout.left_out,
            *(line for found in (robustness or {}).values() for line in found.left_out),
        ),
        bases={
            name: base_of(plugin, catalog, default_parent) for name, plugin in organisms.items()
        },
        default_parent=default_parent,
        without_parent=frozenset(
            name
            for name, plugin in organisms.items()
            if parent_of(plugin, catalog, default_parent) is None
        ),
        saved=dict(saved or {}),
    )


def _with_saved(settings: RunSettings, catalog: Catalog) -> tuple[RunSettings, dict[str, Saved]]:
    """The saved detectors among those asked for, and the settings with their names for folders."""
    names: list[str] = []
    saved: dict[str, Saved] = {}
    for given in settings.detectors:
        if given in catalog.detectors or not is_saved(Path(given)):
            names.append(given)
            continue
        one = read_saved(Path(given), catalog)
        names.append(one.name)
        saved[one.name] = one
    return settings.model_copy(update={"detectors": names}), saved


def _lay_out(
    settings: RunSettings, split: SplitName, catalog: Catalog, default_parent: str | None
) -> tuple[Layout, dict[str, Layout]]:
    """The folds of the headline, and those of each evasion if the whole zoo is asked for."""
    zoo = zoo_of(catalog, default_parent)
    if settings.organism != ALL:
        target = target_of(settings.organism, catalog, default_parent)
        return Layout(tuple(folds_for(target, zoo.members, split, zoo.evading))), {}
    if not zoo.members:
        raise _nothing_to_run(zoo, default_parent)
    layout = folds_for_all(zoo.members, split)
    robustness = evading_folds(zoo.evading, zoo.members, split) if settings.robustness else {}
    return Layout(layout.folds, (*zoo.left_out, *layout.left_out)), robustness


def _nothing_to_run(zoo: Zoo, default_parent: str | None) -> AfbenchError:
    if default_parent is None:
        why = f": {zoo.left_out[0]}" if zoo.left_out else ""
        return NotEnoughCasesError(f"the catalog has no organism to run{why}")
    return NotEnoughCasesError(
        "no organism of the catalog can be put on a model",
        where="--model",
        fix="add some whose source is {type: prompted, parent: null, system_prompt: ...}",
    )


def run_identity(
    settings: RunSettings,
    inputs: Inputs,
    folds: Sequence[Fold],
    robustness: Mapping[str, Sequence[Fold]],
) -> str:
    """The identity of a run cell, the same before and after the run: 16 hex digits."""
    digest = digest_of(
        {
            "settings": settings.model_dump(mode="json"),
            "inputs": inputs.model_dump(mode="json"),
            "folds": [[fold.name, fold.fit, fold.test] for fold in folds],
            "robustness": {
                kind: [[fold.name, fold.fit, fold.test] for fold in of_kind]
                for kind, of_kind in robustness.items()
            },
        }
    )
    return digest.removeprefix("sha256:")[:16]


def resolve_detectors(
    settings: RunSettings, catalog: Catalog, saved: Mapping[str, Saved] | None = None
) -> list[Plugin[DetectorManifest]]:
    """The detectors asked for, then every floor unless floors are off.

    Args:
        saved: those among them that are not fitted again.

    Raises:
        UnknownNameError: one is unknown.
    """
    asked: list[Plugin[DetectorManifest]] = []
    for name in dict.fromkeys(settings.detectors):
        if name == ALL:
            asked += [p for p in catalog.detectors.values() if not p.manifest.floor]
        elif saved and name in saved:
            asked.append(saved[name].plugin)
        else:
            asked.append(catalog.get("detector", name))
    asked = list({plugin.name: plugin for plugin in asked}.values())
    if not settings.floors:
        return asked
    names = {plugin.name for plugin in asked}
    floors = sorted(name for name, p in catalog.detectors.items() if p.manifest.floor)
    return asked + [catalog.detectors[name] for name in floors if name not in names]


def _detector_digests(detectors: Iterable[Plugin[DetectorManifest]]) -> dict[str, str]:
    return {plugin.name: detector_digest(plugin) for plugin in detectors}
