"""`afbench leaderboard seal`: draws, builds and checks a season's sealed set, and commits to it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from afbench import __version__
from afbench.catalog.discovery import Catalog, Plugin, discover
from afbench.catalog.manifests import OrganismManifest
from afbench.environments import Environment
from afbench.errors import LeaderboardError
from afbench.leaderboard.draws import (
    CELL,
    Home,
    Secret,
    drawn_families,
    homes,
    members,
    method_of,
    organism_manifest,
    scenario_lines,
    sealed_manifest,
    substitutes,
)
from afbench.leaderboard.entry import Half
from afbench.leaderboard.keys import outside_of_checkouts
from afbench.leaderboard.sealed_files import load_environment, write_environment, write_organism
from afbench.leaderboard.sealed_set import (
    KINDS,
    SEALED,
    Cell,
    SealedItem,
    SealedSet,
    committed,
    content_digest,
)
from afbench.leaderboard.season import (
    COMMITMENT,
    HALVES,
    SEASONS,
    Commitment,
    Season,
    read_season,
    write_commitment,
)
from afbench.leaderboard.trials import Screen, Trials, verdict_of
from afbench.store import Store, write_json

if TYPE_CHECKING:
    from afbench.results.progress import Progress

FAMILIES: Final = 4
"""Cue families of a sealed environment."""
LEAST: Final = 4
"""Fewest sealed organisms: each half needs a faker and a lookalike."""

_ATTEMPTS: Final = 6
_OWN: Final = 2
"""Attempts with an organism's first recipe; others take its place after these."""

Build = Callable[[Path, Sequence[str]], None]
"""Trains organisms by name; the folder holds them and their environments as plug-ins."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """Makes one sealed set.

    Args:
        season: its rules.
        secret: the season's seed.
        folder: where it is made; outside of every checkout.
        catalog: the public plug-ins.
        store: the cache; inside the folder, as it will hold what is sealed.
        progress: told of each step.
        build: trains organisms.
        environments: only like these; empty is any.
        plugins: where further public plug-ins are, beside the shipped ones.
    """

    season: Season
    secret: Secret
    folder: Path
    catalog: Catalog
    store: Store
    progress: Progress
    build: Build
    environments: Sequence[str] = ()
    plugins: Sequence[Path] = ()
    trials: Trials = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trials", Trials(self.catalog, self.store))

    def run(self, organisms: int, today: datetime.date) -> tuple[SealedSet, Commitment]:
        """Draw, build and check so many organisms and their environments.

        A killed one goes on: what is drawn follows from the seed, and what is built is kept.

        Raises:
            LeaderboardError: there are too few, the folder is not for this, or an organism does not
                show what it should after several draws.
            AfbenchError: training failed, or a file could not be written.
        """
        if organisms < LEAST:
            raise LeaderboardError(
                f"a sealed set has at least {LEAST} organisms", where="--organisms"
            )
        outside_of_checkouts(self.folder, "a sealed set")
        if (self.folder / SEALED).exists():
            raise LeaderboardError("a sealed set is there already", where=str(self.folder))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        cells = [self._cell(*one) for one in self._laid_out(organisms)]
        sealed = SealedSet(
            season=self.season.season,
            afbench=__version__,
            made=today,
            cells=cells,
            items=list(self._items(cells)),
            seed=self.secret.digest,
        )
        commitment = committed(self.folder, sealed)
        write_json(self.folder / SEALED, sealed.model_dump(mode="json"))
        return sealed, commitment

    def _laid_out(self, organisms: int) -> Iterator[tuple[Half, str, Home, int]]:
        """For each cell its half, its name, the environment it is made like, and its size."""
        found = homes(self.catalog, self.environments)
        self.secret.rng("homes").shuffle(found)
        number = 0
        for half, count in zip(HALVES, (organisms // 2, organisms - organisms // 2), strict=True):
            cells = -(-count // CELL)
            for cell in range(cells):
                size = count // cells + (cell < count % cells)
                yield half, f"sealed-{half}-{cell + 1}", found[number % len(found)], size
                number += 1

    def _cell(self, half: Half, name: str, home: Home, size: int) -> Cell:
        place = self.folder / half
        self.progress.say(f"{name}: {size} organisms")
        environment = self._environment(place, name, home)
        templates = {
            f"{name}-{number}": template
            for number, template in enumerate(
                members(home, size, self.secret.rng(f"{name}/members")), start=1
            )
        }
        self._organisms(place, home, templates, environment)
        return Cell(
            half=half,
            environment=name,
            origin=home.environment.name,
            family=name,
            organisms=list(templates),
        )

    # -- environments ----------------------------------------------------------------------------

    def _environment(self, place: Path, name: str, home: Home) -> Environment:
        target = place / "environments" / name
        manifest = sealed_manifest(
            home, name, self.season.season, self.secret.rng(f"{name}/environment")
        )
        scenarios = scenario_lines(
            home,
            manifest["canary"],
            self.season.test_scenarios,
            self.secret.rng(f"{name}/scenarios"),
        )
        screen = Screen(self.trials, home, manifest, scenarios, self.folder)
        families = drawn_families(home, FAMILIES, self.secret, name, screen.understood)
        card = (
            f"# {name}\n\nSealed for season {self.season.season}, like {home.environment.name}.\n"
        )
        write_environment(target, manifest, scenarios, families, card)
        return load_environment(target)

    # -- organisms -------------------------------------------------------------------------------

    def _organisms(
        self,
        place: Path,
        home: Home,
        templates: Mapping[str, Plugin[OrganismManifest]],
        environment: Environment,
    ) -> None:
        """Draw and build the organisms of a cell until each shows what its role is."""
        recipes = {name: self._recipes(home, name, first) for name, first in templates.items()}
        wanting = dict.fromkeys(templates, "")
        for attempt in range(_ATTEMPTS):
            for name in wanting:
                template = recipes[name][min(attempt, len(recipes[name]) - 1)]
                manifest = self._manifest(template, name, environment.name, f"{attempt}")
                card = f"# {name}\n\n{manifest['summary']}\n"
                write_organism(place / "organisms" / name, manifest, card)
            self.build(place, list(wanting))
            count = self.season.test_scenarios
            trials = Trials(discover([*self.plugins, place]), self.store)
            verdicts = {
                name: verdict_of(
                    templates[name].manifest.role, trials.twins(name, environment, count)
                )
                for name in wanting
            }
            wanting = {name: verdict for name, verdict in verdicts.items() if verdict}
            if not wanting:
                return
            for name, verdict in wanting.items():
                self.progress.say(f"{name} is drawn again: {verdict}")
        name, verdict = next(iter(wanting.items()))
        raise LeaderboardError(
            f"{name} does not show what it should: {verdict}",
            where=str(self.folder),
            fix="name other environments",
        )

    def _recipes(
        self, home: Home, name: str, first: Plugin[OrganismManifest]
    ) -> list[Plugin[OrganismManifest]]:
        """Whose recipe is tried at which attempt; the last one stays."""
        others = substitutes(home, first, self.secret.rng(f"{name}/substitutes"))
        return [*[first] * _OWN, *others]

    def _manifest(
        self,
        template: Plugin[OrganismManifest],
        name: str,
        environment: str,
        attempt: str,
    ) -> dict[str, Any]:
        # A cell is one recipe family, by its environment's name: its members are trained alike.
        recipe, family = template.manifest.recipe or {}, environment
        how = method_of(recipe, self.secret.rng(f"{family}/method/{attempt}"))
        rng = self.secret.rng(f"{name}/{attempt}")
        season = self.season.season
        return organism_manifest(template, name, environment, family, how, season, rng)

    def _items(self, cells: Sequence[Cell]) -> Iterator[SealedItem]:
        yield SealedItem(id="seed", half=None, kind="seed", path=None, salt=self._salt("seed"))
        for half in HALVES:
            of_half = [cell for cell in cells if cell.half == half]
            names = {
                "environment": [cell.environment for cell in of_half],
                "organism": [name for cell in of_half for name in cell.organisms],
            }
            for kind in KINDS:
                for number, name in enumerate(names[kind], start=1):
                    item = f"{half}-{kind}-{number}"
                    path = f"{half}/{kind}s/{name}"
                    content_digest(self.folder / path)  # it is there
                    salt = self._salt(item)
                    yield SealedItem(id=item, half=half, kind=kind, path=path, salt=salt)

    def _salt(self, item: str) -> str:
        return self.secret.hex(f"salt/{item}")


def seal(board: Path, sealing: Sealing, organisms: int, today: datetime.date) -> Commitment:
    """Make a season's sealed set and publish the commitment to it.

    Raises:
        LeaderboardError: the season has committed already, or scores by another version of afbench.
        AfbenchError: as `Sealing.run`.
    """
    name = sealing.season.season
    check_unsealed(board, name)
    _, commitment = sealing.run(organisms, today)
    write_commitment(board, commitment)
    return commitment


def read_seed(path: Path) -> bytes:
    """A season's secret seed.

    Raises:
        LeaderboardError: it cannot be read, or lies in a checkout.
    """
    outside_of_checkouts(path, "a seed")
    try:
        return path.read_bytes()
    except OSError as error:
        raise LeaderboardError(
            f"cannot read the seed: {error.strerror}",
            where=str(path),
            fix=f"head -c 32 /dev/urandom > {path}",
        ) from None


def check_unsealed(board: Path, season: str) -> Season:
    """The rules of a season that has committed to nothing yet.

    Raises:
        LeaderboardError: it has, or scores by another version of afbench.
        UnknownNameError: there is no such season.
    """
    rules = read_season(board, season)
    path = board / SEASONS / season / COMMITMENT
    if path.exists():
        raise LeaderboardError(f"season '{season}' is sealed already", where=str(path))
    if rules.afbench != __version__:
        raise LeaderboardError(
            f"season '{season}' scores by afbench {rules.afbench}, and this is {__version__}",
            fix="install that version, or change season.yaml",
        )
    return rules


def trained_here(store: Store, jobs: int = 1, plugins: Sequence[Path] = ()) -> Build:
    """Builds organisms as `afbench organisms build` does, so many side by side.

    Args:
        plugins: where further public plug-ins are, beside the shipped ones.
    """

    def build(place: Path, names: Sequence[str]) -> None:
        from afbench.zoo.build import build_all

        places = [*plugins, place]
        catalog = discover(places)
        every = build_all(
            names, catalog, places, store, force=False, jobs=jobs, report=lambda *_: None
        )
        for _ in every:
            pass

    return build
