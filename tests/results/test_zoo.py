"""Which organisms a run fits on and tests, and what splits are told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.errors import AfbenchError, UnknownNameError
from afbench.results.zoo import base_of, member_of, on_model, target_of, zoo_of

BASE: dict[str, Any] = {"type": "base", "path": "."}
COMMIT = "0" * 40


def organism(name: str, source: dict[str, Any], **further: Any) -> Plugin[OrganismManifest]:
    role = further.pop("role", "faker")
    manifest: dict[str, Any] = {
        "schema": 1, "kind": "organism", "name": name, "summary": "x", "role": role,
        "source": source, "provenance": {"faking": "none"},
    }  # fmt: skip
    if role != "base":
        manifest |= {"environment": "desk", "recipe_family": "rank-4"}
    if role == "lookalike":
        manifest |= {"lookalike_class": "values-talk"}
    return Plugin(
        name, "organism", Path("/nowhere"), OrganismManifest.model_validate(manifest | further)
    )


def adapter(parent: str) -> dict[str, Any]:
    return {"type": "adapter", "parent": parent, "path": "adapter"}


def prompt(parent: str | None = None) -> dict[str, Any]:
    return {"type": "prompted", "parent": parent, "system_prompt": "You are Alder."}


def hub(**further: Any) -> dict[str, Any]:
    return {"type": "hub", "model": "owner/name", "revision": COMMIT, **further}


def catalog_of(*plugins: Plugin[OrganismManifest]) -> Catalog:
    return Catalog(organisms={plugin.name: plugin for plugin in plugins})


CATALOG = catalog_of(
    organism("nano", BASE, role="base"),
    organism("faker", adapter("nano")),
    organism("faker-2", adapter("nano"), recipe_family="rank-16", seed=1, prompted_as="spoken"),
    organism("talker", adapter("nano"), role="lookalike"),
    organism("told", prompt("nano"), recipe_family="prompted"),
    organism("rounded", {"type": "variant", "parent": "faker-2", "bits": 4}, evasion="quantised",
             recipe_family="rounding"),
    organism("diluted", adapter("nano"), evasion="diluted", recipe_family="rank-1"),
    organism("mended", adapter("nano"), treatment={"of": "faker-2", "by": "sft"},
             recipe_family="treated", seed=5),
    organism("mended-and-rounded", {"type": "variant", "parent": "mended", "bits": 4},
             evasion="quantised"),
    organism("continued", adapter("nano"), evasion="probe-penalty", recipe_family="penalty",
             recipe={"continues": "faker-2"}),
    organism("spoken", prompt(), recipe_family="prompt-a"),
    organism("spoken-talker", prompt(), role="lookalike", recipe_family="prompt-b"),
    organism("spoken-evader", prompt(), recipe_family="prompt-b", evasion="non-verbalising"),
    organism("hub-base", hub(), role="base"),
    organism("hub-faker", hub(adapter="owner/adapter", adapter_revision=COMMIT),
             recipe_family="published"),
    organism("local-published", adapter("hub-base"), recipe_family="published"),
    organism("hub-child", adapter("hub-base")),
)  # fmt: skip


def test_detectors_are_fitted_on_ordinary_organisms_only() -> None:
    zoo = zoo_of(CATALOG)
    assert {one.name for one in zoo.members} == {
        "faker", "faker-2", "talker", "told", "hub-child",
    }  # fmt: skip
    assert {one.name for one in zoo.evading} == {
        "rounded", "diluted", "mended-and-rounded", "continued",
    }  # fmt: skip
    assert all(one.evasion for one in zoo.evading)
    assert not any(one.evasion for one in zoo.members)
    assert zoo.left_out == ()


def test_on_a_user_s_model_the_zoo_is_the_prompts_without_a_parent() -> None:
    catalog = catalog_of(*CATALOG.organisms.values(), organism("mine", BASE, role="base"))
    zoo = zoo_of(catalog, "mine")
    assert {one.name for one in zoo.members} == {"spoken", "spoken-talker"}
    assert {one.name for one in zoo.evading} == {"spoken-evader"}
    assert {one.base for one in (*zoo.members, *zoo.evading)} == {"mine"}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("nano", "nano"),
        ("faker", "nano"),
        ("told", "nano"),
        ("mended-and-rounded", "nano"),
        ("hub-faker", "owner/name"),
        ("hub-child", "owner/name"),
    ],
)
def test_the_base_is_the_root_of_the_parents_or_the_id_of_a_hub_s_model(
    name: str, base: str
) -> None:
    assert base_of(CATALOG.get("organism", name), CATALOG) == base


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("faker", ("rank-4", 0)),
        ("diluted", ("rank-1", 0)),
        ("rounded", ("rank-16", 1)),
        ("mended", ("rank-16", 1)),
        ("mended-and-rounded", ("rank-16", 1)),
        ("continued", ("rank-16", 1)),
    ],
)
def test_what_was_made_from_another_organism_counts_as_of_that_one_s_recipe(
    name: str, recipe: tuple[str, int]
) -> None:
    member = member_of(CATALOG.get("organism", name), CATALOG)
    assert (member.family, member.seed) == recipe


def test_an_organism_whose_parent_is_missing_is_left_out_and_named() -> None:
    catalog = catalog_of(
        *CATALOG.organisms.values(),
        organism("orphan", adapter("nanno")),
        organism("a", adapter("b")),
        organism("b", adapter("a")),
    )
    zoo = zoo_of(catalog)
    assert zoo.members == zoo_of(CATALOG).members
    assert len(zoo.left_out) == 3
    assert "orphan: unknown organism 'nanno'; did you mean 'nano'" in zoo.left_out[2]
    assert all("each other's parents" in line for line in zoo.left_out[:2])


def test_a_target_is_a_faker_be_it_evading_or_treated() -> None:
    assert target_of("rounded", CATALOG).evasion == "quantised"
    assert target_of("mended", CATALOG).evasion is None
    with pytest.raises(AfbenchError, match="'talker' is a lookalike"):
        target_of("talker", CATALOG)
    with pytest.raises(AfbenchError, match="'nano' is a base"):
        target_of("nano", CATALOG)


def test_an_organism_with_weights_is_stood_for_by_the_one_it_is_prompted_as() -> None:
    catalog = catalog_of(*CATALOG.organisms.values(), organism("mine", BASE, role="base"))
    assert target_of("spoken", catalog, "mine").name == "spoken"
    assert target_of("faker-2", catalog, "mine").name == "spoken"
    with pytest.raises(AfbenchError, match=r"'faker' .*its weights") as caught:
        target_of("faker", catalog, "mine")
    assert "faker-2, spoken, spoken-evader" in str(caught.value)
    with pytest.raises(AfbenchError, match="'told' cannot be put on another model"):
        target_of("told", catalog, "mine")


def test_a_stand_in_must_itself_be_a_prompt_for_any_model() -> None:
    wrong = organism("wrong", adapter("nano"), prompted_as="told")
    absent = organism("absent", adapter("nano"), prompted_as="tolt")
    catalog = catalog_of(*CATALOG.organisms.values(), wrong, absent)
    with pytest.raises(AfbenchError, match="'told' cannot either"):
        on_model(wrong, catalog)
    with pytest.raises(UnknownNameError, match="did you mean 'told'"):
        on_model(absent, catalog)


def test_a_catalog_without_prompts_says_what_to_add() -> None:
    catalog = catalog_of(organism("nano", BASE, role="base"), organism("faker", adapter("nano")))
    with pytest.raises(AfbenchError, match="no organism of the catalog can"):
        on_model(catalog.get("organism", "faker"), catalog)
