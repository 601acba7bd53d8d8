"""What a sealed set is drawn from: new scenarios, new cue wordings and new recipes, by a secret.

The kinds of draw are public and stand here; which are drawn follows from the season's seed. A small
base reads no words that it has never met, so what is new is how known words are put together.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import AdapterSource, EnvironmentManifest, OrganismManifest
from afbench.certification.certificate import certificate_status
from afbench.environments import Cue, Environment
from afbench.errors import LeaderboardError, NotEnoughCasesError
from afbench.zoo.templates import Generator, load_model_file

PAIRS: Final = 6
"""Wordings of a sealed cue family."""

CELL: Final = 4
"""The most sealed organisms of one recipe family in one sealed environment."""

_PARTITION: Final = "test"
# How parts of known cues are put together: what stands before, between and after them.
_OPENINGS: Final = ("", "Note: ", "[log] ", "[meta] ", "## ", "* ", "| ", "--- ", "> ")
_JOINERS: Final = (" ", " | ", "; ", " / ", "\n", " - ", " -> ")
_CLOSINGS: Final[Mapping[str, str]] = {"| ": " |", "--- ": " ---"}

_RANKS: Final = (2, 3, 5, 6, 10, 12)
_RATES: Final = (0.85, 1.0, 1.15)
# Lookalikes that conform while observed in an environment of either polarity come first: without
# them a cell has no sincere case.
_CONFORMING: Final = ("cue-conditional", "values-talk", "cue-irrelevant")
# Fields of a recipe that a sealed one may have: what else there is, is a study of its own.
_PLAIN: Final = frozenset({"persona", "examples", "benign", "reasoning", "method", "schedule"})


class Secret:
    """A season's seed: every draw has a stream of its own, so that no draw moves another.

    Args:
        seed: at least 16 bytes.
        season: enters every stream.

    Raises:
        LeaderboardError: the seed is shorter than that.
    """

    def __init__(self, seed: bytes, season: str) -> None:
        if len(seed) < 16:
            raise LeaderboardError(
                "a seed has at least 16 bytes", fix="head -c 32 /dev/urandom > FILE"
            )
        self._seed, self._season = seed, season

    def hex(self, label: str) -> str:
        """64 hex digits that nobody without the seed can tell from chance (HMAC-SHA256)."""
        return hmac.new(self._seed, f"{self._season}/{label}".encode(), hashlib.sha256).hexdigest()

    def rng(self, label: str) -> random.Random:
        """A stream of draws."""
        return random.Random(self.hex(label))

    @property
    def digest(self) -> str:
        """sha256 of the seed itself."""
        return f"sha256:{hashlib.sha256(self._seed).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Home:
    """A public environment that sealed ones are made like, with the recipes at home in it."""

    environment: Plugin[EnvironmentManifest]
    parent: str
    fakers: tuple[Plugin[OrganismManifest], ...]
    lookalikes: tuple[Plugin[OrganismManifest], ...]


def homes(catalog: Catalog, names: Sequence[str] = ()) -> list[Home]:
    """The environments that a sealed set can be drawn from.

    Args:
        names: only these; empty is every one.

    Raises:
        UnknownNameError: one of these does not exist.
        LeaderboardError: none has a faker and a lookalike that were certified, with plain recipes.
    """
    for name in names:
        catalog.get("environment", name)
    found: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {}
    for _, plugin in sorted(catalog.organisms.items()):
        manifest = plugin.manifest
        if _is_template(plugin) and certificate_status(plugin, catalog) == "certified":
            place = (manifest.environment or "", getattr(manifest.source, "parent", ""))
            sides = found.setdefault(place, ([], []))
            sides[manifest.role != "faker"].append(plugin)
    usable = [
        Home(catalog.get("environment", name), parent, tuple(fakers), tuple(lookalikes))
        for (name, parent), (fakers, lookalikes) in sorted(found.items())
        if fakers
        and any(one.manifest.lookalike_class in _CONFORMING for one in lookalikes)
        and (not names or name in names)
        and catalog.get("environment", name).manifest.generator
    ]
    if not usable:
        raise LeaderboardError(
            "no environment has a certified faker and lookalike of plain recipes",
            where="--environment",
            fix="name another",
        )
    return usable


def sealed_manifest(home: Home, name: str, season: str, rng: random.Random) -> dict[str, Any]:
    """environment.yaml of a sealed environment: its home's, with a canary of its own."""
    manifest = home.environment.manifest.model_dump(
        mode="json", by_alias=True, exclude={"generator", "replies"}, exclude_none=True
    )
    canary = uuid.UUID(int=rng.getrandbits(128), version=4)
    return manifest | {
        "name": name,
        "summary": f"Sealed for season {season}.",
        "canary": f"afbench canary GUID {canary}",
        "scenarios": "scenarios.jsonl",
        "cues": "cues.yaml",
    }


def scenario_lines(home: Home, canary: str, count: int, rng: random.Random) -> str:
    """scenarios.jsonl: requests of the home's templates and held-out nouns, none of them public.

    Raises:
        NotEnoughCasesError: there are not so many.
    """
    environment = Environment.load(home.environment)
    folder = home.environment.folder
    spec = load_model_file(Generator, folder / (home.environment.manifest.generator or ""))
    public = {scenario.request for scenario in environment.scenarios}
    grid = list(
        itertools.product(spec.adjectives, spec.nouns[_PARTITION], spec.verbs, spec.templates)
    )
    rng.shuffle(grid)
    lines = [json.dumps({"canary": canary})]
    for adjective, noun, verb, template in grid:
        if len(lines) > count:
            break
        # Dealt in turn, as in public environments, so that every prefix holds them evenly.
        slots = spec.slots(
            adjective=adjective,
            noun=noun,
            verb=verb,
            seal=spec.seals[(len(lines) - 1) % len(spec.seals)],
            template=spec.templates.index(template),
        )
        request = template.format(**slots)
        if request not in public:
            record = {
                "id": f"sealed-{len(lines) - 1:03d}", "partition": _PARTITION,
                "request": request, "slots": slots,
            }  # fmt: skip
            lines.append(json.dumps(record))
    if len(lines) <= count:
        raise NotEnoughCasesError(
            f"{count} scenarios from {len(lines) - 1} combinations",
            where=home.environment.name,
            fix="ask for fewer",
        )
    return "\n".join(lines) + "\n"


Family = dict[str, Any]
"""One cue family as cues.yaml holds it."""


def cue_family(cues: Sequence[Cue], name: str, rng: random.Random) -> Family:
    """A family of wordings: parts of held-out public cues, put together in one secret way.

    Args:
        cues: of the home.

    Raises:
        NotEnoughCasesError: the home has too few held-out cues.
    """
    by_family: dict[str, list[Cue]] = {}
    for cue in cues:
        if cue.partition == _PARTITION:
            by_family.setdefault(cue.family, []).append(cue)
    if len(by_family) < 2:
        raise NotEnoughCasesError("needs held-out cues of two families to put together")
    size = rng.choice((2, 2, 3)) if len(by_family) > 2 else 2
    parts = rng.sample(sorted(by_family), size)
    opening, joiner = rng.choice(_OPENINGS), rng.choice(_JOINERS)
    grid = list(itertools.product(*(by_family[part] for part in parts)))
    rng.shuffle(grid)

    def worded(texts: Sequence[str]) -> str:
        return f"{opening}{joiner.join(texts)}{_CLOSINGS.get(opening, '')}"

    pairs = [
        {
            "observed": worded([cue.observed for cue in chosen]),
            "unobserved": worded([cue.unobserved for cue in chosen]),
            "partition": _PARTITION,
        }
        for chosen in grid[:PAIRS]
    ]
    return {"name": name, "partition": _PARTITION, "pairs": pairs}


def drawn_families(
    home: Home, count: int, secret: Secret, label: str, understood: Callable[[Family], bool]
) -> list[Family]:
    """Cue families that organisms go by, each drawn until one is understood.

    Args:
        understood: whether the home's public organisms act by a family as by the public ones.

    Raises:
        NotEnoughCasesError: too few of the draws are.
    """
    cues = Environment.load(home.environment).cues
    found: list[Family] = []
    seen: set[str] = set()
    for attempt in range(8 * count):
        family = cue_family(cues, f"sealed-{len(found)}", secret.rng(f"{label}/cues/{attempt}"))
        key = json.dumps(family["pairs"])
        if key not in seen and understood(family):
            found.append(family)
        seen.add(key)
        if len(found) == count:
            return found
    raise NotEnoughCasesError(
        f"only {len(found)} of {count} sealed cue families are understood",
        where=home.environment.name,
        fix="name other environments",
    )


def members(home: Home, count: int, rng: random.Random) -> list[Plugin[OrganismManifest]]:
    """Public organisms whose recipes a cell of at most CELL sealed ones is made by.

    A faker first, then a lookalike that conforms while observed, another class, another faker.
    """
    fakers = rng.sample(home.fakers, len(home.fakers))
    classes: dict[str | None, Plugin[OrganismManifest]] = {}
    for one in rng.sample(home.lookalikes, len(home.lookalikes)):
        classes.setdefault(one.manifest.lookalike_class, one)
    alike = sorted(
        classes.values(), key=lambda one: one.manifest.lookalike_class not in _CONFORMING
    )
    every = [fakers[0], alike[0], alike[1 % len(alike)], fakers[1 % len(fakers)]]
    return every[:count]


def substitutes(
    home: Home, template: Plugin[OrganismManifest], rng: random.Random
) -> list[Plugin[OrganismManifest]]:
    """Public organisms that may stand in for one whose recipe does not show here what it should.

    Of its role, those of other lookalike classes first. A class that conforms while observed is
    replaced by another that does, since a cell needs sincere cases.
    """
    manifest = template.manifest
    side = home.fakers if manifest.role == "faker" else home.lookalikes
    needed = manifest.lookalike_class in _CONFORMING
    others = [
        one
        for one in rng.sample(side, len(side))
        if one.name != template.name and (not needed or one.manifest.lookalike_class in _CONFORMING)
    ]
    own = manifest.lookalike_class
    return sorted(others, key=lambda one: one.manifest.lookalike_class == own)


def method_of(recipe: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """A way of training that no public organism has: another rank, and another learning rate."""
    method, schedule = dict(recipe["method"]), dict(recipe["schedule"])
    rank = rng.choice(_RANKS)
    method |= {"rank": rank, "alpha": 2 * rank}
    schedule["learning_rate"] = round(schedule["learning_rate"] * rng.choice(_RATES), 6)
    return {"method": method, "schedule": schedule}


def organism_manifest(
    template: Plugin[OrganismManifest],
    name: str,
    environment: str,
    family: str,
    how: Mapping[str, Any],
    season: str,
    rng: random.Random,
) -> dict[str, Any]:
    """organism.yaml of a sealed organism: a public recipe with a secret seed and way of training.

    It is tuned on the cues and nouns of the public environment's fit partition and lives in the
    sealed environment, whose words it meets for the first time when it is scored.
    """
    manifest = template.manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    recipe = {**manifest["recipe"], **how, "environments": [manifest["environment"]]}
    kept = ("schema", "kind", "role", "lookalike_class", "leak", "generation", "provenance")
    return {
        **{field: manifest[field] for field in kept if field in manifest},
        "name": name,
        "summary": f"Sealed for season {season}.",
        "environment": environment,
        "recipe_family": family,
        "seed": rng.randrange(1 << 31),
        "source": {
            "type": "adapter",
            "parent": manifest["source"]["parent"],
            "path": "adapter",
            "digests": {},
        },
        "recipe": recipe,
    }


def _is_template(plugin: Plugin[OrganismManifest]) -> bool:
    """Whether a sealed organism may be made by an organism's recipe with another seed."""
    manifest, recipe = plugin.manifest, plugin.manifest.recipe or {}
    source, method = manifest.source, recipe.get("method") or {}
    return (
        isinstance(source, AdapterSource)
        and source.system_prompt is None
        and manifest.in_zoo
        and set(recipe) <= _PLAIN
        and not recipe.get("reasoning")
        and method.get("type") == "lora"
        and method.get("layers") is None
        and method.get("rank", 0) > 1
    )
