"""A detector's AUROC by organism and environment, over splits.

A record keeps the AUROC of each fold. The organisms that a fold tests share it: mostly one faker
and the lookalikes of its recipe, and in the splits `environment` and `in-distribution` all
organisms of an environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from afbench.results.record import DetectorFigures, OrganismFigures
from afbench.site.content import Sweep

# A cell's class is h0 (worst) to h7; h2 is what chance gives.
_STEPS: Final = (0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One line of a heat map: a value for each split, None where there is none."""

    name: str
    group: str
    values: tuple[float | None, ...]


def shade(value: float | None) -> str:
    """The class of a cell with an AUROC."""
    return "hn" if value is None else f"h{sum(value >= step for step in _STEPS)}"


def shade_of_rate(value: float | None) -> str:
    """The class of a cell with a false-positive rate: f0 (none) to f4."""
    if value is None:
        return "hn"
    return f"f{sum(value >= step for step in (0.02, 0.075, 0.15, 0.3))}"


class Folds:
    """Which fold tests what, looked up once for all detectors of some sweeps.

    Attributes:
        fakers: tested fakers by environment.
    """

    def __init__(self, sweeps: Sequence[Sweep]) -> None:
        self._sweeps = sweeps
        known: dict[str, OrganismFigures] = {}
        for sweep in sweeps:
            known |= {one.name: one for one in sweep.record.organisms}
        self._by_organism = [_folds_of(sweep) for sweep in sweeps]
        self._by_environment = [_environments(sweep, known) for sweep in sweeps]
        self.environments = sorted({name for one in self._by_environment for name in one})
        tested = {name for one in self._by_organism for name in one}
        fakers = [known[name] for name in tested if name in known and known[name].role == "faker"]
        self.fakers = sorted(fakers, key=lambda one: (one.environment, one.name))

    def by_environment(self, detector: str) -> list[HeatRow]:
        """The mean AUROC over an environment's folds, in each split."""
        rows = self._rows(detector)
        return [
            HeatRow(name, "", tuple(
                _mean(row, folds.get(name, ())) for row, folds in
                zip(rows, self._by_environment, strict=True)
            ))
            for name in self.environments
        ]  # fmt: skip

    def by_faker(self, detector: str) -> list[HeatRow]:
        """The mean AUROC over the folds that test a faker, in each split."""
        rows = self._rows(detector)
        return [
            HeatRow(faker.name, faker.environment, tuple(
                _mean(row, folds.get(faker.name, ())) for row, folds in
                zip(rows, self._by_organism, strict=True)
            ))
            for faker in self.fakers
        ]  # fmt: skip

    def of_organism(self, organism: str, figures: Sequence[DetectorFigures | None]) -> HeatRow:
        """A detector's mean AUROC over the folds that test an organism, in each split.

        Args:
            figures: of the detector, in each sweep.
        """
        values = tuple(
            _mean(row, folds.get(organism, ()))
            for row, folds in zip(figures, self._by_organism, strict=True)
        )
        return HeatRow(organism, "", values)

    def is_clear(self, organism: str, figures: Sequence[DetectorFigures | None]) -> bool:
        """Whether AUROC is clearly above chance in each of an organism's folds.

        It is asked in the first split that has an interval.
        """
        for row, folds in zip(figures, self._by_organism, strict=True):
            found = [row.auroc_by_fold.get(fold) for fold in folds.get(organism, ())] if row else []
            lows = [one.low for one in found if one is not None and one.low is not None]
            if lows:
                return min(lows) > 0.5
        return False

    def tests(self, organism: str) -> bool:
        """Whether any sweep's test side has the organism."""
        return any(organism in folds for folds in self._by_organism)

    def _rows(self, detector: str) -> list[DetectorFigures | None]:
        return [sweep.figures.get(detector) for sweep in self._sweeps]


def environment_values(sweep: Sweep, environments: Sequence[str]) -> dict[str, list[float | None]]:
    """For each detector, its mean AUROC over the folds of each environment."""
    folds = _environments(sweep, {one.name: one for one in sweep.record.organisms})
    return {
        one.name: [_mean(one, folds.get(name, ())) for name in environments]
        for one in sweep.record.detectors
    }


def environments_of(sweep: Sweep) -> list[str]:
    """The environments that a sweep's folds test, in order."""
    return sorted(_environments(sweep, {one.name: one for one in sweep.record.organisms}))


def _folds_of(sweep: Sweep) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fold, sides in sweep.record.folds.items():
        for name in sides.get("test", ()):
            found.setdefault(name, []).append(fold)
    return found


def _environments(sweep: Sweep, known: Mapping[str, OrganismFigures]) -> dict[str, list[str]]:
    """The folds whose tested organisms are all of one environment, by that environment."""
    found: dict[str, list[str]] = {}
    for fold, sides in sweep.record.folds.items():
        homes = {known[name].environment for name in sides.get("test", ()) if name in known}
        if len(homes) == 1:
            found.setdefault(homes.pop(), []).append(fold)
    return found


def _mean(row: DetectorFigures | None, folds: Sequence[str]) -> float | None:
    if row is None:
        return None
    figures = (row.auroc_by_fold.get(fold) for fold in folds)
    values = [one.value for one in figures if one is not None and one.value is not None]
    return fmean(values) if values else None
