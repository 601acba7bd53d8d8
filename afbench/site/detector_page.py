"""What stands on the page of one detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.leaderboard.entry import Entry
from afbench.results.record import DetectorFigures
from afbench.site.cards import read_card
from afbench.site.content import Content, Sweep
from afbench.site.marks import roc
from afbench.site.matrices import Folds, HeatRow
from afbench.site.standing import Place
from afbench.site.views import Row

# Places on a curve that the table beside it names.
AT: Final = (0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class RocPanel:
    """One split's ROC curve: the picture, and true-positive rates at `AT`."""

    split: str
    picture: Markup
    rates: tuple[float, ...]
    floor: str | None


@dataclass(frozen=True, slots=True)
class InZoo:
    """A detector in the sweeps of one zoo.

    Attributes:
        figures: by split, in order; None where a sweep has it not.
        places: by split.
        environments, fakers: heat maps with a column for each split.
        robustness: evasion -> AUROC figures by split.
    """

    zoo: str
    splits: tuple[str, ...]
    figures: tuple[DetectorFigures | None, ...]
    places: tuple[Place | None, ...]
    curves: tuple[RocPanel, ...]
    environments: tuple[HeatRow, ...]
    fakers: tuple[HeatRow, ...]
    evasions: tuple[str, ...]

    @property
    def there(self) -> list[tuple[str, DetectorFigures, Place | None]]:
        """The splits that it was measured on."""
        found = zip(self.splits, self.figures, self.places, strict=True)
        return [(split, one, place) for split, one, place in found if one is not None]

    @property
    def scored(self) -> list[tuple[str, DetectorFigures, Place | None]]:
        """The splits that it has figures on."""
        return [one for one in self.there if one[1].auroc.value is not None]


@dataclass(frozen=True, slots=True)
class DetectorPage:
    """One detector: its card, and where it stands. `figures` are any of its figures."""

    name: str
    figures: DetectorFigures
    summary: str | None
    source: str | None
    card: Markup | None
    zoos: tuple[InZoo, ...]
    entries: tuple[Row, ...]

    @property
    def submission(self) -> Entry | None:
        """An entry that says whose it is."""
        return next((row.entry for row in self.entries if row.entry), None)


class DetectorPages:
    """Makes the page of each detector.

    Args:
        content: of the leaderboard.
        places: of every sweep in `content.sweeps`.
        plugins: those whose cards can be shown.
    """

    def __init__(
        self,
        content: Content,
        places: Sequence[Mapping[str, Place]],
        plugins: Mapping[str, Plugin[DetectorManifest]],
    ) -> None:
        self._content, self._plugins = content, plugins
        self._places = {id(s): p for s, p in zip(content.sweeps, places, strict=True)}
        self._folds = {zoo: Folds(content.of_zoo(zoo)) for zoo in content.zoos}

    def names(self) -> list[str]:
        """Of all detectors that have any figure."""
        found = {name for sweep in self._content.sweeps for name in sweep.figures}
        for season in self._content.seasons:
            found |= {one.detector for one in season.entries}
            found |= {floor.name for one in season.entries for floor in one.floors}
        return sorted(found)

    def page(self, name: str) -> DetectorPage:
        """One of `names`."""
        zoos = tuple(
            self._in_zoo(name, zoo)
            for zoo in self._content.zoos
            if any(name in sweep.figures for sweep in self._content.of_zoo(zoo))
        )
        of_season = [
            (one, figures)
            for season in self._content.seasons
            for one in season.entries
            for figures in (one.figures, *one.floors)
            if figures.name == name
        ]
        own = [Row(one.figures, None, one.status, one) for one, _ in of_season
               if one.detector == name]  # fmt: skip
        any_figures = zoos[0].there[0][1] if zoos else of_season[0][1]
        plugin = self._plugins.get(name)
        return DetectorPage(
            name=name,
            figures=any_figures,
            summary=plugin.manifest.summary if plugin else None,
            source=plugin.manifest.source if plugin else None,
            card=read_card(plugin.folder) if plugin else None,
            zoos=zoos,
            entries=tuple(own),
        )

    def _in_zoo(self, name: str, zoo: str) -> InZoo:
        sweeps = self._content.of_zoo(zoo)
        figures = tuple(sweep.figures.get(name) for sweep in sweeps)
        ceiling = any(one is not None and one.ceiling for one in figures)
        return InZoo(
            zoo=zoo,
            splits=tuple(sweep.split for sweep in sweeps),
            figures=figures,
            places=tuple(self._places[id(sweep)].get(name) for sweep in sweeps),
            curves=tuple(panel for sweep in sweeps if (panel := _panel(name, sweep))),
            environments=() if ceiling else tuple(self._folds[zoo].by_environment(name)),
            fakers=() if ceiling else tuple(self._folds[zoo].by_faker(name)),
            evasions=tuple(sorted({e for one in figures if one for e in one.robustness})),
        )


def _panel(name: str, sweep: Sweep) -> RocPanel | None:
    """The ROC curve of a detector, with that of the sweep's best floor behind it."""
    curves = sweep.curves.roc if sweep.curves else {}
    if name not in curves:
        return None
    floors = [one for one in sweep.record.detectors if one.floor and one.name in curves]
    best = max(floors, key=lambda one: one.auroc.value or -1.0, default=None)
    behind = curves[best.name] if best is not None and best.name != name else None
    curve = curves[name]
    rates = tuple(curve[round(at * (len(curve) - 1))] for at in AT)
    return RocPanel(sweep.split, roc(curve, behind), rates, best.name if best and behind else None)
