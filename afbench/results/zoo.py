"""Which organisms a run may fit on and test, and what the splits need to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afbench.cases.access import root_of, runs_on_any_model
from afbench.cases.splits import Member
from afbench.certification.certificate import certificate_status
from afbench.errors import AfbenchError
from afbench.models.digests import parent_of

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog, Plugin
    from afbench.catalog.manifests import OrganismManifest

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Zoo:
    """The organisms of a catalog that a run can use.

    Attributes:
        members: what detectors are fitted on, and what the headline is over.
        evading: organisms that were made hard to detect; tested only.
        left_out: a line for each that cannot be used because of what it is made from.
    """

    members: tuple[Member, ...]
    evading: tuple[Member, ...]
    left_out: tuple[str, ...]


def zoo_of(catalog: Catalog, default_parent: str | None = None) -> Zoo:
    """Every faker and lookalike that is not known to have failed certification.

    Args:
        default_parent: the model that a run puts prompted organisms on. The zoo is then these
            organisms alone.
    """
    members: list[Member] = []
    evading: list[Member] = []
    left_out: list[str] = []
    for name, plugin in sorted(catalog.organisms.items()):
        manifest = plugin.manifest
        if manifest.role == "base" or not (manifest.in_zoo or manifest.evasion):
            continue
        # Without a model to prompt these organisms have no weights; with one, nothing else counts.
        if runs_on_any_model(manifest) != (default_parent is not None):
            continue
        try:
            if certificate_status(plugin, catalog, default_parent) == "failed":
                continue
            member = member_of(plugin, catalog, default_parent)
        except AfbenchError as error:
            left_out.append(f"{name}: {error}")
            continue
        (evading if manifest.evasion else members).append(member)
    return Zoo(tuple(members), tuple(evading), tuple(left_out))


def target_of(name: str, catalog: Catalog, default_parent: str | None = None) -> Member:
    """The faker that a run is asked for; on a user's model, the organism that stands for it.

    Raises:
        UnknownNameError: there is no such organism.
        AfbenchError: it is no faker, or cannot be put on a model.
    """
    plugin = catalog.get("organism", name)
    if default_parent is not None:
        plugin = on_model(plugin, catalog)
    if plugin.manifest.role != "faker":
        raise AfbenchError(
            f"'{name}' is a {plugin.manifest.role}: a run scores a faker against its lookalikes",
            where="--organism",
            fix="name a faker ('afbench list organisms' shows the roles), or 'all'",
        )
    return member_of(plugin, catalog, default_parent)


def on_model(plugin: Plugin[OrganismManifest], catalog: Catalog) -> Plugin[OrganismManifest]:
    """The organism itself where it is a prompt without a parent, else the one it is prompted as.

    Raises:
        AfbenchError: it is neither; the organisms that are get listed.
    """
    if runs_on_any_model(plugin.manifest):
        return plugin
    stand_in = plugin.manifest.prompted_as
    if stand_in is not None:
        found = catalog.get("organism", stand_in)
        if runs_on_any_model(found.manifest):
            return found
    able = sorted(
        name
        for name, other in catalog.organisms.items()
        if other.manifest.role == "faker"
        and (runs_on_any_model(other.manifest) or other.manifest.prompted_as)
    )
    known = f"fakers that can: {', '.join(able[:_SHOWN])}{', ...' if len(able) > _SHOWN else ''}"
    why = "its behaviour lies in its weights" if stand_in is None else f"'{stand_in}' cannot either"
    raise AfbenchError(
        f"'{plugin.name}' cannot be put on another model: {why}",
        where="--model",
        fix=known
        if able
        else "no organism of the catalog can: add one whose source is "
        "{type: prompted, parent: null, system_prompt: ...}",
    )


def member_of(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None = None
) -> Member:
    """What a split needs to know of an organism.

    Raises:
        AfbenchError: its parents cannot be found.
    """
    manifest = plugin.manifest
    recipe = manifest
    if not manifest.in_zoo:
        # What was changed holds what was learnt before, which must not be fitted on either.
        *_, origin = _origins(plugin, catalog, default_parent)
        recipe = origin.manifest
    return Member(
        name=plugin.name,
        base=base_of(plugin, catalog, default_parent),
        environment=manifest.environment or "",
        family=recipe.recipe_family or "",
        seed=recipe.seed,
        faker=manifest.role == "faker",
        evasion=manifest.evasion,
    )


def base_of(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None = None
) -> str:
    """The name of an organism's root; for a model of a hub its id, which several may share.

    Raises:
        AfbenchError: its parents cannot be found.
    """
    root = root_of(plugin, catalog, default_parent)
    source = root.manifest.source
    return source.model if source.type == "hub" else root.name


def _origins(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None
) -> Iterator[Plugin[OrganismManifest]]:
    """The organism, what it was made by changing, what that was made from, and so on."""
    seen: list[str] = []
    link: Plugin[OrganismManifest] | None = plugin
    while link is not None and link.name not in seen:
        yield link
        seen.append(link.name)
        link = _changed_from(link, catalog, default_parent)


def _changed_from(
    plugin: Plugin[OrganismManifest], catalog: Catalog, default_parent: str | None
) -> Plugin[OrganismManifest] | None:
    manifest = plugin.manifest
    if manifest.treatment is not None:
        return catalog.get("organism", manifest.treatment.of)
    parent = parent_of(plugin, catalog, default_parent)
    if parent is not None and parent.manifest.role != "base":
        return parent
    continued = (manifest.recipe or {}).get("continues")
    return catalog.get("organism", str(continued)) if continued else None
