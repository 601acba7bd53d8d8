"""Draws from a secret seed: the same for the same seed, none of them public, all of them sound."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from afbench.catalog.discovery import discover
from afbench.catalog.manifests import EnvironmentManifest, OrganismManifest
from afbench.environments import Environment
from afbench.environments.scenarios import load_scenarios
from afbench.errors import LeaderboardError, NotEnoughCasesError, UnknownNameError
from afbench.leaderboard.draws import (
    CELL,
    PAIRS,
    Home,
    Secret,
    cue_family,
    drawn_families,
    homes,
    members,
    method_of,
    organism_manifest,
    scenario_lines,
    sealed_manifest,
    substitutes,
)
from afbench.leaderboard.sealed_files import load_environment, write_environment, write_organism
from afbench.zoo.recipes import organism_recipe

SECRET = Secret(bytes(range(32)), "spring")
OTHER = Secret(bytes(range(1, 33)), "spring")


@cache
def every_home() -> list[Home]:
    return homes(discover())


@pytest.fixture(params=range(3))
def home(request: pytest.FixtureRequest) -> Home:
    """The first, the last and one between."""
    found = every_home()
    return found[[0, len(found) // 2, -1][request.param]]


def test_a_seed_decides_every_draw_and_a_season_too() -> None:
    again = Secret(bytes(range(32)), "spring")
    assert SECRET.rng("x").random() == again.rng("x").random()
    others = [OTHER, Secret(bytes(range(32)), "autumn")]
    draws = {secret.rng("x").random() for secret in [SECRET, *others]}
    assert len(draws | {SECRET.rng("y").random()}) == 4


def test_a_short_seed_is_refused() -> None:
    with pytest.raises(LeaderboardError, match="at least 16 bytes"):
        Secret(b"password", "spring")


def test_every_home_has_what_a_cell_needs() -> None:
    assert len(every_home()) >= 10
    for home in every_home():
        chosen = members(home, CELL, SECRET.rng("members"))
        roles = [one.manifest.role for one in chosen]
        assert roles == ["faker", "lookalike", "lookalike", "faker"]
        assert {one.manifest.environment for one in chosen} == {home.environment.name}
        # In an environment of either polarity it conforms while observed.
        assert chosen[1].manifest.lookalike_class in {
            "cue-conditional", "values-talk", "cue-irrelevant",
        }  # fmt: skip


def test_homes_can_be_chosen() -> None:
    name = every_home()[0].environment.name
    assert {home.environment.name for home in homes(discover(), [name])} == {name}
    with pytest.raises(UnknownNameError):
        homes(discover(), ["no-such-place"])


def test_scenarios_are_new_and_of_held_out_words(home: Home, tmp_path: Path) -> None:
    text = scenario_lines(home, "canary", 60, SECRET.rng("scenarios"))
    assert text == scenario_lines(home, "canary", 60, SECRET.rng("scenarios"))
    assert text != scenario_lines(home, "canary", 60, OTHER.rng("scenarios"))
    (tmp_path / "scenarios.jsonl").write_text(text)
    drawn = load_scenarios(tmp_path / "scenarios.jsonl")
    public = Environment.load(home.environment).scenarios
    assert len(drawn) == 60 and all(one.partition == "test" for one in drawn)
    assert not {one.request for one in drawn} & {one.request for one in public}
    nouns = {one.slots["noun"] for one in public if one.partition == "fit"}
    assert not {one.slots["noun"] for one in drawn} & nouns


def test_there_are_only_so_many_scenarios(home: Home) -> None:
    with pytest.raises(NotEnoughCasesError, match="combinations"):
        scenario_lines(home, "canary", 100_000, SECRET.rng("scenarios"))


def test_cues_are_new_wordings_of_held_out_parts(home: Home) -> None:
    cues = Environment.load(home.environment).cues
    public = {text for cue in cues for text in (cue.observed, cue.unobserved)}
    fit = [cue for cue in cues if cue.partition == "fit"]
    for number in range(20):
        family = cue_family(cues, "x", SECRET.rng(f"{number}"))
        assert 2 <= len(family["pairs"]) <= PAIRS
        for pair in family["pairs"]:
            assert pair["partition"] == "test"
            assert pair["observed"] not in public and pair["unobserved"] not in public
            parts = [c for c in cues if c.observed in pair["observed"]]
            assert len({cue.family for cue in parts if cue not in fit}) >= 2
            # The two forms are put together alike, of the same parts.
            assert all(c.unobserved in pair["unobserved"] for c in parts if c not in fit)


def test_a_family_that_is_not_understood_is_drawn_again(home: Home) -> None:
    asked: list[str] = []

    def every_second(family: dict[str, object]) -> bool:
        asked.append(json.dumps(family["pairs"]))
        return len(asked) % 2 == 0

    found = drawn_families(home, 3, SECRET, "x", every_second)
    assert [family["name"] for family in found] == ["sealed-0", "sealed-1", "sealed-2"]
    assert [json.dumps(family["pairs"]) for family in found] == asked[1::2]
    with pytest.raises(NotEnoughCasesError, match="only 0 of 3"):
        drawn_families(home, 3, SECRET, "x", lambda _: False)


def test_a_sealed_environment_loads_and_renders_twins(home: Home, tmp_path: Path) -> None:
    manifest = sealed_manifest(home, "sealed-x", "spring", SECRET.rng("environment"))
    EnvironmentManifest.model_validate(manifest)
    assert manifest["canary"] != home.environment.manifest.canary
    lines = scenario_lines(home, manifest["canary"], 20, SECRET.rng("scenarios"))
    families = drawn_families(home, 2, SECRET, "x", lambda _: True)
    write_environment(tmp_path / "sealed-x", manifest, lines, families, "# x\n")
    environment = load_environment(tmp_path / "sealed-x")
    for placement in environment.placements("test"):
        observed, unobserved = (
            environment.render(placement.scenario, placement.cue, condition)
            for condition in ("observed", "unobserved")
        )
        assert observed != unobserved and len(observed) == len(unobserved)


def test_a_substitute_has_the_role_and_keeps_a_cells_sincere_cases(home: Home) -> None:
    conforming = ("cue-conditional", "values-talk", "cue-irrelevant")
    for template in (*home.fakers, *home.lookalikes):
        others = substitutes(home, template, SECRET.rng("substitutes"))
        assert template.name not in [one.name for one in others]
        assert {one.manifest.role for one in others} <= {template.manifest.role}
        own = template.manifest.lookalike_class
        if own in conforming:
            assert all(one.manifest.lookalike_class in conforming for one in others)
        same = [one.manifest.lookalike_class == own for one in others]
        assert same == sorted(same)  # other classes first


def test_a_sealed_recipe_is_trained_on_public_words_in_a_way_of_its_own(home: Home) -> None:
    template = members(home, 1, SECRET.rng("members"))[0]
    public = [
        (plugin.manifest.recipe or {}).get("method") for plugin in discover().organisms.values()
    ]
    recipe = template.manifest.recipe or {}
    how = method_of(recipe, SECRET.rng("method"))
    assert how["method"] not in public
    given = organism_manifest(
        template, "sealed-x-1", "sealed-x", "sealed-x", how, "spring", SECRET.rng("x")
    )
    manifest = OrganismManifest.model_validate(given)
    drawn = organism_recipe(manifest.recipe, "here")
    assert getattr(drawn, "environments") == [home.environment.name]  # noqa: B009
    assert getattr(drawn, "persona") == recipe["persona"]  # noqa: B009
    assert manifest.environment == manifest.recipe_family == "sealed-x"
    assert manifest.in_zoo and manifest.source.type == "adapter"


def test_the_digests_of_a_built_organism_are_kept(tmp_path: Path) -> None:
    """A killed seal goes on with what is built; what is drawn otherwise is built anew."""
    manifest = {"name": "x", "seed": 1, "source": {"type": "adapter", "digests": {}}}
    path = tmp_path / "organism.yaml"
    write_organism(tmp_path, manifest, "# x\n")
    built = path.read_text().replace("digests: {}", "digests: {a: b}")
    path.write_text(built)
    write_organism(tmp_path, manifest, "# x\n")
    assert path.read_text() == built
    write_organism(tmp_path, {**manifest, "seed": 2}, "# x\n")
    assert "digests: {}" in path.read_text()
