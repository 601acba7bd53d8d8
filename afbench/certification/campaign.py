"""Certifies many organisms side by side, each process on one core with its bases in memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.catalog.discovery import Catalog, Plugin, discover
from afbench.catalog.manifests import OrganismManifest
from afbench.certification.certificate import Certificate
from afbench.models.digests import parent_of
from afbench.store import Store

if TYPE_CHECKING:
    from afbench.certification.certify import Certifier

# More than one set of full weights is loaded where parents and rounded bases come in.
_BASES = 4


def certifiable(catalog: Catalog) -> list[Plugin[OrganismManifest]]:
    """Organisms that can be certified here: no base, none without a model or to be fetched."""
    return [
        plugin
        for plugin in catalog.organisms.values()
        if plugin.manifest.role != "base"
        and plugin.manifest.source.type != "hub"
        and not (
            plugin.manifest.source.type == "prompted" and plugin.manifest.source.parent is None
        )
    ]


def certify_each(
    plugins: Sequence[Plugin[OrganismManifest]],
    catalog: Catalog,
    plugin_dirs: Sequence[Path],
    store: Store,
    *,
    scenarios: int | None,
    jobs: int,
) -> Iterator[Certificate]:
    """The certificates of organisms, each as soon as it is there.

    Args:
        plugin_dirs: where the workers find the same plug-ins.
        scenarios: as in `Certifier`.
        jobs: how many processes; one works in this process.

    Raises:
        AfbenchError: as `Certifier.certify`; what was finished before is kept in the cache.
    """
    # Those of one base follow each other, so that a process seldom loads another.
    order = sorted(plugins, key=lambda plugin: (_root(plugin, catalog), plugin.name))
    if jobs == 1 or len(order) < 2:
        certifier = _certifier(catalog, store, scenarios)
        yield from map(certifier.certify, order)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(jobs, len(order)),
        mp_context=context,
        initializer=_begin,
        initargs=(list(plugin_dirs), store.root, scenarios),
    ) as pool:
        waiting = [pool.submit(_certify, plugin.name) for plugin in order]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _root(plugin: Plugin[OrganismManifest], catalog: Catalog) -> str:
    link: Plugin[OrganismManifest] | None = plugin
    name = plugin.name
    while link is not None:
        name, link = link.name, parent_of(link, catalog)
    return name


def _certifier(catalog: Catalog, store: Store, scenarios: int | None) -> Certifier:
    from afbench.cases.access import OrganismAccess
    from afbench.certification.certify import Certifier
    from afbench.models.loading import ModelStore

    models = ModelStore(catalog, max_bases=_BASES)
    return Certifier(OrganismAccess(models, catalog, store), catalog, scenarios)


_worker: dict[str, Any] = {}


def _begin(plugin_dirs: list[Path], cache: Path, scenarios: int | None) -> None:
    """Set a worker process up: one thread, one catalog, one certifier."""
    import torch

    torch.set_num_threads(1)
    catalog = discover(plugin_dirs)
    _worker["catalog"] = catalog
    _worker["certifier"] = _certifier(catalog, Store(cache), scenarios)


def _certify(name: str) -> Certificate:
    certificate: Certificate = _worker["certifier"].certify(
        _worker["catalog"].get("organism", name)
    )
    return certificate
