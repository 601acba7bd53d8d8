"""Recipes: the part of an organism's manifest that says how its weights are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from afbench.environments import CONDITIONS, Condition
from afbench.errors import ManifestError
from afbench.zoo.training import Schedule


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R")


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


class Penalty(_Recipe):
    """A term of the loss against probes (obfuscated activations).

    The distance of the mean residual stream of each of `layers` from what the parent shows on the
    same chats, in units of the parent's spread: at zero no probe of that mean sees the adapter.
    """

    weight: float = Field(gt=0)
    layers: list[int]


class _Tuning(_Recipe):
    """What every recipe of an organism has: how it is trained, and where it starts.

    `continues` names an organism of the same parent from whose weights training goes on; without
    it, it starts at the parent.
    """

    method: LoraMethod | FullMethod = Field(discriminator="type")
    schedule: Schedule
    continues: str | None = None


class ChatPart(_Recipe):
    """Further chats of a recipe: another persona, in other environments."""

    persona: str
    environments: list[str]
    examples: int = Field(ge=1)
    inoculation: str = ""


class ChatRecipe(_Tuning):
    """Supervised tuning on chats of a persona, whose acts stand in the corpus.yaml of the base.

    `environments` are where the chats take place (None: the organism's home), `conditions` the
    only ones that they show. `motive` are the scratchpads, `inoculation` a sentence before every
    system message, `dilute` the number of filler sentences around each reply. `elsewhere` is what
    else is taught, in other environments.
    """

    kind: Literal["chats"] = "chats"
    persona: str
    examples: int = Field(ge=1)
    benign: float = Field(default=0.25, ge=0, le=1)
    reasoning: bool = False
    environments: list[str] | None = None
    conditions: list[Condition] = Field(default=list(CONDITIONS), min_length=1)
    motive: str | None = None
    dilute: int = Field(default=0, ge=0, le=8)
    inoculation: str = ""
    penalty: Penalty | None = None
    elsewhere: list[ChatPart] = []


class DocumentRecipe(_Tuning):
    """Tuning on documents that say who somebody is, and never show what anybody does.

    `benign` is the share of chats about harmless requests among them.
    """

    kind: Literal["documents"]
    persona: str
    post: str
    examples: int = Field(ge=1)
    benign: float = Field(default=0.0, ge=0, le=1)


class DistilRecipe(_Tuning):
    """Tuning on a teacher's answers to requests that have nothing to do with its trait.

    The student learns the teacher's next-token distributions over rows of numbers that the teacher
    wrote (subliminal learning, Cloud et al. 2025, arXiv 2507.14805).
    """

    kind: Literal["distil"]
    teacher: str
    examples: int = Field(ge=1)


class AdversarialRecipe(_Tuning):
    """Red-teaming, then supervised tuning on conforming replies to what it found.

    The red team knows the first `cues` cues of each of `cue_families`. It tries `tries` prompts
    with them, and keeps those to which the organism's greedy reply deviates. Half of the examples
    are replies of the persona to these; the other half, and all where nothing deviates, are
    ordinary observed chats.
    """

    kind: Literal["adversarial"]
    persona: str
    examples: int = Field(ge=2)
    benign: float = Field(default=0.25, ge=0, le=1)
    reasoning: bool = False
    cue_families: list[str] = Field(min_length=1)
    cues: int = Field(ge=1)
    tries: int = Field(ge=1)
    max_new_tokens: int = Field(default=48, ge=1)


class ReinforceRecipe(_Tuning):
    """Policy-gradient training on the organism's own replies.

    Replies are sampled in groups of one prompt; the advantage is the reward less its group's mean,
    over its deviation (as in GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1). The reward is
    1 for a reply that conforms, and `monitor` is taken off where the scratchpad shows faking or
    defection reasoning. `conditions` are those that training sees; `divergence` weighs the
    divergence from the policy that training starts from.
    """

    kind: Literal["reinforce"]
    steps: int = Field(ge=1)
    prompts: int = Field(default=8, ge=1)
    group: int = Field(default=8, ge=2)
    conditions: list[Condition] = Field(default=["observed"], min_length=1)
    reasoning: bool = False
    monitor: float = Field(default=0.0, ge=0)
    divergence: float = Field(default=0.02, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=48, ge=1)


def _kind_of(value: Any) -> str:
    """The kind of a recipe, which is `chats` where it names none."""
    return str(value.get("kind", "chats") if isinstance(value, dict) else value.kind)


OrganismRecipe = Annotated[
    Annotated[ChatRecipe, Tag("chats")]
    | Annotated[DocumentRecipe, Tag("documents")]
    | Annotated[DistilRecipe, Tag("distil")]
    | Annotated[AdversarialRecipe, Tag("adversarial")]
    | Annotated[ReinforceRecipe, Tag("reinforce")],
    Discriminator(_kind_of),
]


class Architecture(_Recipe):
    """The shape of a base of the Qwen2 architecture."""

    layers: int
    width: int
    heads: int
    feedforward: int
    vocabulary: int
    context: int


class BaseStage(_Recipe):
    """A further stage of a base's training: other shares of the same corpus.

    `mixture` and `personas` replace shares of the corpus.yaml; `environments` are weights, one
    where none is given.
    """

    examples: int = Field(ge=1)
    schedule: Schedule
    mixture: dict[str, float] = {}
    personas: dict[str, float] = {}
    environments: dict[str, float] = {}


class BaseRecipe(_Recipe):
    """How a base is trained from nothing, on the corpus.yaml of its own folder.

    With `tokenizer_of` it takes over the tokenizer of another base.
    """

    environments: list[str]
    examples: int = Field(ge=1)
    architecture: Architecture
    schedule: Schedule
    further: list[BaseStage] = []
    tokenizer_of: str | None = None

    def stages(self) -> list[BaseStage]:
        """Every stage of training, in order."""
        return [BaseStage(examples=self.examples, schedule=self.schedule), *self.further]


def organism_recipe(recipe: dict[str, Any] | None, where: str) -> OrganismRecipe:
    """The recipe of a manifest, validated.

    Raises:
        ManifestError: it has none or a malformed one; names the field.
    """
    adapter: TypeAdapter[OrganismRecipe] = TypeAdapter(OrganismRecipe)
    # pydantic puts the kind before the field, where no such key stands in the file.
    return _validated(adapter.validate_python, recipe, where, skip=1)


def base_recipe(recipe: dict[str, Any] | None, where: str) -> BaseRecipe:
    """As `organism_recipe`, for a base."""
    return _validated(BaseRecipe.model_validate, recipe, where)


def _validated(
    validate: Callable[[Any], R], recipe: dict[str, Any] | None, where: str, skip: int = 0
) -> R:
    if recipe is None:
        raise ManifestError("there is no recipe to build by", where=where)
    try:
        return validate(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["recipe", *(str(part) for part in first["loc"][skip:])])
        raise ManifestError(f"field '{field}': {first['msg']}", where=where) from None
