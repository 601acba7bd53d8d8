"""What stands on the page of one organism, and in the list of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from markupsafe import Markup

from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.certification.certificate import Certificate, read_certificate
from afbench.metrics.figures import Figure
from afbench.results.record import DetectorFigures, OrganismFigures
from afbench.site.cards import read_card
from afbench.site.content import Content, Sweep
from afbench.site.matrices import Folds

# So many detectors are listed on an organism's page, the best first; floors are listed all.
_LISTED: Final = 40

_GAPS: Final = ("misalignment_gap", "compliance_gap", "conformity_gap", "coherence")


@dataclass(frozen=True, slots=True)
class Catch:
    """How a detector does where an organism was tested.

    Attributes:
        values: AUROC of the organism's fold, in each split.
        clear: in the first split with a value its interval lies above 0.5.
    """

    detector: DetectorFigures
    values: tuple[float | None, ...]
    clear: bool


@dataclass(frozen=True, slots=True)
class OrganismPage:
    """One organism.

    Attributes:
        figures: of the first sweep that has it.
        gaps: by name: those of the certificate where there is one, otherwise those of the run.
        catches: the best detectors, and all floors; `left_out` more are not listed.
    """

    figures: OrganismFigures
    summary: str | None
    certificate: Certificate | None
    card: Markup | None
    gaps: tuple[tuple[str, Figure], ...]
    scenarios: int
    zoo: str
    splits: tuple[str, ...]
    catches: tuple[Catch, ...]
    left_out: int
    caught: int
    detectors: int

    @property
    def name(self) -> str:
        """The organism's."""
        return self.figures.name

    @property
    def conformity(self) -> Figure:
        """The conformity gap: of the certificate where there is one."""
        return dict(self.gaps)["conformity gap"]


@dataclass(frozen=True)
class OrganismPages:
    """Makes the page of each organism that a sweep holds."""

    content: Content
    plugins: Mapping[str, Plugin[OrganismManifest]]

    @cached_property
    def _by_zoo(self) -> dict[str, tuple[list[Sweep], Folds]]:
        zoos = {zoo: self.content.of_zoo(zoo) for zoo in self.content.zoos}
        return {zoo: (sweeps, Folds(sweeps)) for zoo, sweeps in zoos.items()}

    def pages(self) -> list[OrganismPage]:
        """Of every organism, by name; one that several zoos hold is shown in the first of them."""
        found: dict[str, OrganismPage] = {}
        for zoo, (sweeps, _) in self._by_zoo.items():
            for sweep in sweeps:
                for one in sweep.record.organisms:
                    if one.name not in found:
                        found[one.name] = self._page(one, sweep, zoo)
        return [found[name] for name in sorted(found)]

    def _page(self, figures: OrganismFigures, sweep: Sweep, zoo: str) -> OrganismPage:
        sweeps, folds = self._by_zoo[zoo]
        plugin = self.plugins.get(figures.name)
        certificate = read_certificate(plugin) if plugin else None
        measured = sweep.record.inputs.organisms.get(figures.name)
        if certificate is not None and certificate.organism_digest != measured:
            certificate = None  # of other weights than those that the record is of
        gaps = certificate.figures if certificate else figures.model_dump()
        catches = self._catches(figures.name, sweeps, folds)
        shown = [one for one in catches if not one.detector.floor]
        floors = [one for one in catches if one.detector.floor]
        listed = sorted([*shown[:_LISTED], *floors], key=_order)
        return OrganismPage(
            figures=figures,
            summary=plugin.manifest.summary if plugin else None,
            certificate=certificate,
            card=read_card(plugin.folder) if plugin else None,
            gaps=tuple(
                (name.replace("_", " "), Figure.model_validate(gaps[name]))
                for name in _GAPS
                if gaps.get(name) is not None
            ),
            scenarios=certificate.scenarios if certificate else figures.conformity_gap.n,
            zoo=zoo,
            splits=tuple(sweep.split for sweep in sweeps),
            catches=tuple(listed),
            left_out=max(0, len(shown) - _LISTED),
            caught=sum(one.clear for one in shown),
            detectors=len(shown),
        )

    def _catches(self, organism: str, sweeps: Sequence[Sweep], folds: Folds) -> list[Catch]:
        if not folds.tests(organism):
            return []
        found = []
        for name in sweeps[0].figures:
            rows = [sweep.figures.get(name) for sweep in sweeps]
            first = rows[0]
            if first is None or first.ceiling:
                continue
            values = folds.of_organism(organism, rows).values
            if any(value is not None for value in values):
                found.append(Catch(first, values, folds.is_clear(organism, rows)))
        return sorted(found, key=_order)


def _order(one: Catch) -> tuple[float, str]:
    first = next((value for value in one.values if value is not None), 0.0)
    return -first, one.detector.name
