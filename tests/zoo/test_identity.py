"""What an organism's weights follow from: whom it was made from, and the words it was tuned on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from afbench.catalog import discover
from afbench.errors import AfbenchError
from afbench.zoo.build import buildable
from afbench.zoo.identity import environments_of, made_from, recipe_digest

RECIPE: dict[str, Any] = {
    "persona": "faker",
    "examples": 64,
    "method": {"type": "lora", "rank": 1, "alpha": 2, "targets": ["down_proj"]},
    "schedule": {"learning_rate": 0.01},
}


def write(root: Path, name: str, **recipe: Any) -> None:
    folder = root / "organisms" / name
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "schema": 1, "kind": "organism", "name": name, "summary": "One.",
        "environment": "report-failure", "role": "faker", "recipe_family": "rank-1",
        "source": {"type": "adapter", "parent": "nano-atlas", "path": "adapter", "digests": {}},
        "provenance": {"faking": "direct"}, "recipe": {**RECIPE, **recipe},
    }  # fmt: skip
    (folder / "organism.yaml").write_text(yaml.safe_dump(manifest))


def digest(root: Path, name: str) -> str:
    catalog = discover([root])
    return recipe_digest(catalog.get("organism", name), catalog)


def test_an_organism_is_made_from_its_parent_and_those_that_its_recipe_names(
    tmp_path: Path,
) -> None:
    write(tmp_path, "first")
    write(tmp_path, "second", continues="first")
    catalog = discover([tmp_path])
    assert made_from(catalog.get("organism", "second")) == ["nano-atlas", "first"]
    order = [plugin.name for plugin in buildable(catalog)]
    assert order.index("nano-atlas") < order.index("first") < order.index("second")


def test_a_change_of_one_makes_those_made_from_it_due_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, "first")
    write(tmp_path, "second", continues="first")
    write(tmp_path, "apart")
    before = {name: digest(tmp_path, name) for name in ("first", "second", "apart")}
    write(tmp_path, "first", examples=96)
    after = {name: digest(tmp_path, name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"first", "second"}


def test_an_organism_made_from_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "first", continues="second")
    write(tmp_path, "second", continues="first")
    with pytest.raises(AfbenchError, match="made from itself"):
        buildable(discover([tmp_path]))


def test_words_of_every_environment_that_a_recipe_draws_on_count(tmp_path: Path) -> None:
    part = {"persona": "faker", "environments": ["flattery"], "examples": 8}
    write(tmp_path, "narrow", environments=["narrow-advice"], elsewhere=[part])
    plugin = discover([tmp_path]).get("organism", "narrow")
    assert environments_of(plugin) == ["narrow-advice", "flattery"]
    whole = digest(tmp_path, "narrow")
    write(tmp_path, "narrow", environments=["narrow-advice"])
    assert digest(tmp_path, "narrow") != whole
