"""Variants of a shipped organism, scaled or rounded; nothing is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from afbench.catalog import discover
from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError
from afbench.models.chat import join_prompts
from afbench.models.digests import organism_digest
from afbench.models.loading import ModelStore

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root = tmp_path_factory.mktemp("plugins")

    def write(name: str, **source: Any) -> None:
        folder = root / "organisms" / name
        folder.mkdir(parents=True)
        manifest = {
            "schema": 1, "kind": "organism", "name": name, "summary": "A variant.",
            "environment": "training-tier", "role": "faker", "recipe_family": "rank-4",
            "source": {"type": "variant", **source}, "provenance": {"faking": "direct"},
        }  # fmt: skip
        (folder / "organism.yaml").write_text(yaml.safe_dump(manifest))

    write("whole", parent="helpful-only", scale=1.0)
    write("half", parent="helpful-only", scale=0.5)
    write("none", parent="helpful-only", scale=1e-6)
    write("rounded", parent="helpful-only", bits=4)
    write("nothing-to-scale", parent="nano-base", scale=0.5)
    return discover([root])


def logits(models: ModelStore, name: str) -> torch.Tensor:
    model = models.get(name)
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        found: torch.Tensor = model.module(input_ids=ids).logits
    return found


def test_a_scaled_adapter_lies_between_its_base_and_itself(catalog: Catalog) -> None:
    models = ModelStore(catalog)
    base, whole = logits(models, "nano-base"), logits(models, "helpful-only")
    assert torch.allclose(logits(models, "none"), base, atol=1e-3)
    assert torch.allclose(logits(models, "whole"), whole, atol=1e-5)
    half = logits(models, "half")
    assert 0 < float((half - base).norm()) < float((whole - base).norm())
    # The one that was scaled is a copy: the organism itself answers as before.
    assert torch.allclose(logits(models, "helpful-only"), whole, atol=1e-6)


def test_rounding_changes_the_answers_and_leaves_the_organism_alone(catalog: Catalog) -> None:
    models = ModelStore(catalog, max_bases=3)
    whole = logits(models, "helpful-only")
    rounded = logits(models, "rounded")
    assert not torch.allclose(rounded, whole, atol=1e-3)
    assert torch.allclose(logits(models, "helpful-only"), whole, atol=1e-6)


def test_every_variant_has_an_identity_of_its_own(catalog: Catalog) -> None:
    names = ["helpful-only", "whole", "half", "rounded"]
    digests = {organism_digest(catalog.get("organism", name), catalog) for name in names}
    assert len(digests) == len(names)


def test_what_no_adapter_added_cannot_be_scaled(catalog: Catalog) -> None:
    with pytest.raises(AfbenchError, match="its parent has none"):
        ModelStore(catalog).get("nothing-to-scale")


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("You are Alder. ", "The desk.", "You are Alder. The desk."),
        ("You are Alder.", "The desk.", "You are Alder.\n\nThe desk."),
        (None, "The desk.", "The desk."),
        ("You are Alder. ", None, "You are Alder. "),
        (None, None, ""),
    ],
)
def test_a_prompt_that_ends_in_a_space_opens_the_one_after_it(
    first: str | None, second: str | None, joined: str
) -> None:
    assert join_prompts(first, second) == joined
