"""Every page of the site: its path, its template and what the template is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Final

from afbench.catalog.discovery import Catalog
from afbench.results.evaluation import LOOKALIKE_CLASSES
from afbench.site.content import SPLITS, Content, SeasonEntries, Sweep
from afbench.site.detector_page import AT, DetectorPages
from afbench.site.downloads import downloads
from afbench.site.matrices import environments_of
from afbench.site.organism_page import OrganismPages
from afbench.site.rendering import environment
from afbench.site.standing import places
from afbench.site.views import Table, season_table, sweep_table

_HALVES: Final = (
    ("verified", "final"),
    ("verified", "feedback"),
    ("reported", None),
    ("external", None),
)


@dataclass(frozen=True, slots=True)
class Tab:
    """A link above the table: to a split of a zoo, or to a season."""

    title: str
    note: str
    path: str


@dataclass(frozen=True, slots=True)
class _Page:
    path: str
    template: str
    given: Mapping[str, Any]


class Site:
    """All files of the site but the static ones.

    Args:
        content: of the leaderboard.
        catalog: whose cards and certificates are shown.
        base_url: where the site will stand on its host; only 404.html, which is served in any
            folder, needs it.
        source: address of the repository's files, for links to its documents; None for none.
    """

    def __init__(
        self, content: Content, catalog: Catalog, *, base_url: str = "/", source: str | None = None
    ) -> None:
        self._content, self._base_url, self._source = content, base_url, source
        self._standing = [places(one.record.detectors, one.curves) for one in content.sweeps]
        self._detectors = DetectorPages(content, self._standing, catalog.detectors)
        self._organisms = OrganismPages(content, catalog.organisms)
        self._paths = _paths(content)

    @cached_property
    def _downloads(self) -> dict[str, str]:
        return downloads(self._content, self._standing)

    def files(self) -> Iterator[tuple[str, str]]:
        """Path and text of each file, in a fixed order."""
        templates = environment()
        templates.globals |= {
            "nav": self._navigation(),
            "tabs": self._tabs(),
            "titles": SPLITS,
            "classes": LOOKALIKE_CLASSES,
            "source": self._source,
        }
        for page in self._pages():
            above = "../" * (len(PurePosixPath(page.path).parts) - 1)
            given = {"root": above, "path": page.path, **page.given}
            yield page.path, templates.get_template(page.template).render(given)
        for name, text in self._downloads.items():
            yield f"data/{name}", text

    def _pages(self) -> Iterator[_Page]:
        yield from self._tables()
        yield from self._compared()
        known = self._detectors.names()
        for name in known:
            page = self._detectors.page(name)
            yield _Page(f"detectors/{name}.html", "detector.html", {"page": page, "at": AT})
        organisms = self._organisms.pages()
        if self._content.sweeps:
            yield _Page("organisms/index.html", "organisms.html", {"pages": organisms})
        for organism in organisms:
            yield _Page(f"organisms/{organism.name}.html", "organism.html", {"page": organism})
        yield _Page("methods.html", "methods.html", {"content": self._content})
        yield _Page("data.html", "data.html", {"files": sorted(self._downloads),
                                               "sweeps": self._content.sweeps})  # fmt: skip
        yield _Page("404.html", "404.html", {"root": self._base_url})

    def _tables(self) -> Iterator[_Page]:
        for number, sweep in enumerate(self._content.sweeps):
            table = sweep_table(sweep, environments_of(sweep))
            given = {"table": table, "sweep": sweep, "first": number == 0}
            yield _Page(self._paths[number], "table.html", given)
        for number, season in enumerate(self._seasons()):
            tables = list(_season_tables(season))
            given = {"season": season, "tables": tables}
            path = _season_path(season)
            yield _Page(path, "season.html", given)
            if number == 0 and not self._content.sweeps:
                yield _Page("index.html", "season.html", given)

    def _compared(self) -> Iterator[_Page]:
        for zoo in self._content.zoos:
            alike, others = self._content.comparable(zoo)
            yield _Page(_compare_path(self._content, zoo), "compare.html", {
                "zoo": zoo, "sweeps": alike, "others": others, "rows": compared(alike),
            })  # fmt: skip

    def _navigation(self) -> list[tuple[str, str]]:
        pages = [("Leaderboard", "index.html")]
        if self._content.sweeps:
            pages += [("Splits compared", "compare.html"), ("Organisms", "organisms/index.html")]
        return [*pages, ("How to read it", "methods.html"), ("Data", "data.html")]

    def _seasons(self) -> list[SeasonEntries]:
        return [one for one in self._content.seasons if one.entries]

    def _tabs(self) -> list[Tab]:
        several = len(self._content.zoos) > 1
        tabs = [
            Tab(SPLITS.get(sweep.split, sweep.split), sweep.zoo if several else sweep.split, path)
            for sweep, path in zip(self._content.sweeps, self._paths, strict=True)
        ]
        tabs += [Tab(f"Season {one.rules.season}", "sealed and reported", _season_path(one))
                 for one in self._seasons()]  # fmt: skip
        return tabs


def compared(sweeps: Sequence[Sweep]) -> list[tuple[str, bool, bool, list[Any]]]:
    """A line for each detector: name, floor, contrast and its figures in each sweep.

    The order is that of the first sweep. Ceilings are left out.
    """
    known = {name: one for sweep in reversed(sweeps) for name, one in sweep.figures.items()}
    able = [one for one in known.values() if not one.ceiling]
    first = sweeps[0].figures

    def order(name: str) -> tuple[float, str]:
        one = first.get(name)
        return -((one.auroc.value if one else None) or 0.0), name

    return [
        (name, known[name].floor, known[name].contrast, [s.figures.get(name) for s in sweeps])
        for name in sorted((one.name for one in able), key=order)
    ]


def _season_tables(season: SeasonEntries) -> Iterator[tuple[str, str | None, Table]]:
    for status, half in _HALVES:
        if any(one.status == status and one.half == half for one in season.entries):
            yield status, half, season_table(season, status, half)


def _paths(content: Content) -> list[str]:
    """The page of each sweep: the first one's is the index."""
    return [
        "index.html" if number == 0 else f"splits/{sweep.zoo}/{sweep.split}.html"
        for number, sweep in enumerate(content.sweeps)
    ]


def _season_path(season: SeasonEntries) -> str:
    return f"seasons/{season.rules.season}.html"


def _compare_path(content: Content, zoo: str) -> str:
    return "compare.html" if zoo == content.zoos[0] else f"splits/{zoo}/compare.html"
