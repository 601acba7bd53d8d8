"""Recipes: the part of an organism's manifest that says how its weights are made."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afbench.errors import ManifestError
from afbench.zoo.training import Schedule


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=_Recipe)


class LoraMethod(_Recipe):
    """Low-rank adapters on named projections, on every layer or on some."""

    type: Literal["lora"]
    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    targets: list[str]
    layers: list[int] | None = None


class FullMethod(_Recipe):
    """Every weight is trained."""

    type: Literal["full"]


class OrganismRecipe(_Recipe):
    """How an organism is tuned from its parent.

    `persona`, and what it does, are looked up in the corpus.yaml of the parent's folder.
    """

    persona: str
    examples: int = Field(ge=1)
    benign: float = Field(ge=0, le=1)
    reasoning: bool = False
    method: LoraMethod | FullMethod = Field(discriminator="type")
    schedule: Schedule


class Architecture(_Recipe):
    """The shape of a base of the Qwen2 architecture."""

    layers: int
    width: int
    heads: int
    feedforward: int
    vocabulary: int
    context: int


class BaseRecipe(_Recipe):
    """How a base is trained from nothing, on the corpus.yaml of its own folder."""

    environments: list[str]
    examples: int = Field(ge=1)
    architecture: Architecture
    schedule: Schedule


def organism_recipe(recipe: dict[str, Any] | None, where: str) -> OrganismRecipe:
    """The recipe of a manifest, validated.

    Raises:
        ManifestError: it has none or a malformed one; names the field.
    """
    return _validated(OrganismRecipe, recipe, where)


def base_recipe(recipe: dict[str, Any] | None, where: str) -> BaseRecipe:
    """As `organism_recipe`, for a base."""
    return _validated(BaseRecipe, recipe, where)


def _validated(model: type[R], recipe: dict[str, Any] | None, where: str) -> R:
    if recipe is None:
        raise ManifestError("there is no recipe to build by", where=where)
    try:
        return model.model_validate(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["recipe", *(str(part) for part in first["loc"])])
        raise ManifestError(f"field '{field}': {first['msg']}", where=where) from None
