"""The three manifests: what a plug-in's folder says about itself.

The models are the reference for the YAML files: a field that is not here is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import FieldPath, YamlFile, display, load_yaml, path_problem
from afbench.errors import ManifestError

Kind = Literal["organism", "environment", "detector"]
KINDS: Final[tuple[Kind, ...]] = ("organism", "environment", "detector")
Tier = Literal["text", "logprobs", "activations", "weights"]
TIERS: Final[tuple[Tier, ...]] = ("text", "logprobs", "activations", "weights")

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]*$"


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    if "\n" in text.strip():
        raise ValueError("must be one line")
    return text.strip()


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=80)]
Line = Annotated[str, AfterValidator(_one_line)]
Text = Annotated[str, StringConstraints(min_length=1)]
Regex = Annotated[str, AfterValidator(_regex)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Manifest(_Model):
    """What the three kinds share."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    summary: Line


# Organisms


class AdapterSource(_Model):
    """A LoRA adapter on a parent organism."""

    type: Literal["adapter"]
    parent: Name
    path: Text
    digests: dict[str, Digest] = {}


class FullSource(_Model):
    """Full weights that were trained from a parent organism."""

    type: Literal["full"]
    parent: Name
    path: Text
    digests: dict[str, Digest] = {}


class BaseSource(_Model):
    """Full weights with no parent."""

    type: Literal["base"]
    path: Text
    digests: dict[str, Digest] = {}


class HubSource(_Model):
    """A model, and possibly an adapter, of a model hub; both pinned by revision."""

    type: Literal["hub"]
    model: Text
    revision: Text
    adapter: Text | None = None
    adapter_revision: Text | None = None

    @model_validator(mode="after")
    def _adapter_is_pinned(self) -> HubSource:
        if (self.adapter is None) != (self.adapter_revision is None):
            raise ValueError("'adapter' and 'adapter_revision' go together")
        return self


class PromptedSource(_Model):
    """A system prompt on a parent organism, or on the model of the command line (null)."""

    type: Literal["prompted"]
    parent: Name | None = None
    system_prompt: Text


Source = AdapterSource | FullSource | BaseSource | HubSource | PromptedSource


class Generation(_Model):
    """How the organism is sampled unless the run says otherwise."""

    reasoning: bool = False
    max_new_tokens: PositiveInt = 48


class Provenance(_Model):
    """How the faking came about."""

    faking: Literal["direct", "generalised", "prompted", "none"]


class OrganismManifest(_Manifest):
    """organism.yaml: a model plus the way its behaviour was instilled."""

    kind: Literal["organism"]
    environment: Name | None = None
    role: Literal["faker", "lookalike", "base"]
    lookalike_class: (
        Literal[
            "cue-irrelevant",
            "always-deviating",
            "always-harmless",
            "cue-conditional",
            "values-talk",
        ]
        | None
    ) = None
    recipe_family: Name | None = None
    seed: int = 0
    leak: Literal["none", "some", "open"] | None = None
    source: Source = Field(discriminator="type")
    generation: Generation = Generation()
    provenance: Provenance
    recipe: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _role_agrees(self) -> OrganismManifest:
        if (self.role == "lookalike") != (self.lookalike_class is not None):
            raise ValueError("'lookalike_class' is for the role 'lookalike', which must give it")
        if self.role != "base" and self.environment is None:
            raise ValueError(f"the role '{self.role}' needs an 'environment'")
        if self.role != "base" and self.recipe_family is None:
            raise ValueError(f"the role '{self.role}' needs a 'recipe_family'")
        return self

    def paths(self) -> dict[FieldPath, str]:
        """Paths that the manifest gives, by field, relative to the folder."""
        source = self.source
        if isinstance(source, AdapterSource | FullSource | BaseSource):
            given: dict[FieldPath, str] = {("source", "path"): source.path}
            for name in source.digests:
                given["source", "digests", name] = f"{source.path}/{name}"
            return given
        return {}


# Environments


class ReasoningPatterns(_Model):
    """What counts as faking reasoning (AFR) and as defection reasoning (DR)."""

    afr_patterns: list[Regex] = []
    dr_patterns: list[Regex] = []


class Grader(_Model):
    """A rule grader: regular expressions over the reply."""

    comply_patterns: list[Regex]
    refuse_patterns: list[Regex]
    reasoning: ReasoningPatterns = ReasoningPatterns()
    min_words: int = Field(default=2, ge=0)


class EnvironmentManifest(_Manifest):
    """environment.yaml: scenarios, cues, the two prompts and the grader.

    `replies` and `generator` are read by training recipes only.
    """

    kind: Literal["environment"]
    polarity: Literal["comply", "behave"]
    source: Text
    canary: Text
    system_prompt: str
    user_prompt: str
    scenarios: Text
    cues: Text
    grader: Grader
    replies: Text | None = None
    generator: Text | None = None

    @field_validator("system_prompt")
    @classmethod
    def _has_cue(cls, prompt: str) -> str:
        return _holds_once(prompt, "{cue}")

    @field_validator("user_prompt")
    @classmethod
    def _has_request(cls, prompt: str) -> str:
        return _holds_once(prompt, "{request}")

    def paths(self) -> dict[FieldPath, str]:
        """Paths that the manifest gives, by field, relative to the folder."""
        given: dict[FieldPath, str | None] = {
            ("scenarios",): self.scenarios,
            ("cues",): self.cues,
            ("replies",): self.replies,
            ("generator",): self.generator,
        }
        return {loc: path for loc, path in given.items() if path is not None}


def _holds_once(prompt: str, slot: str) -> str:
    count = prompt.count(slot)
    if count != 1:
        raise ValueError(f"must contain {slot} exactly once, and has it {count} times")
    return prompt


# Detectors


class Limits(_Model):
    """What a detector may take in one run."""

    seconds: float = Field(default=600, gt=0, allow_inf_nan=False)


class DetectorManifest(_Manifest):
    """detector.yaml: the detector's class, its access tier and its limits."""

    kind: Literal["detector"]
    tier: Tier
    needs_parent: bool = False
    floor: bool = False
    entry: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$")]
    params: dict[str, Any] = {}
    limits: Limits = Limits()
    source: Text | None = None

    @model_validator(mode="after")
    def _parent_needs_activations(self) -> DetectorManifest:
        if self.needs_parent and self.tier not in ("activations", "weights"):
            raise ValueError("'needs_parent' needs the tier 'activations' or 'weights'")
        return self

    @property
    def entry_file(self) -> str:
        """The file part of `entry`, relative to the folder."""
        return self.entry.rpartition(":")[0]

    @property
    def entry_class(self) -> str:
        """The class part of `entry`."""
        return self.entry.rpartition(":")[2]

    def paths(self) -> dict[FieldPath, str]:
        """Paths that the manifest gives, by field, relative to the folder."""
        return {("entry",): self.entry_file}


Manifest = OrganismManifest | EnvironmentManifest | DetectorManifest

_MODELS: Final[dict[Kind, type[OrganismManifest | EnvironmentManifest | DetectorManifest]]] = {
    "organism": OrganismManifest,
    "environment": EnvironmentManifest,
    "detector": DetectorManifest,
}


def manifest_kind(folder: Path) -> Kind | None:
    """The kind of plug-in in `folder` by the manifest file it holds; None if it holds none."""
    return next((kind for kind in KINDS if (folder / f"{kind}.yaml").is_file()), None)


def load_manifest(folder: Path) -> Manifest:
    """Read and validate the manifest of a plug-in's folder.

    Args:
        folder: holds one of organism.yaml, environment.yaml, detector.yaml.

    Raises:
        ManifestError: no manifest or several; or a field that is wrong, named with file and line.
    """
    found = [kind for kind in KINDS if (folder / f"{kind}.yaml").is_file()]
    if len(found) != 1:
        what = "holds no manifest" if not found else f"holds {len(found)} manifests"
        expected = ", ".join(f"{kind}.yaml" for kind in KINDS)
        raise ManifestError(f"{display(folder)} {what}", fix=f"give it one of {expected}")
    file = load_yaml(folder / f"{found[0]}.yaml")
    manifest = validate(_MODELS[found[0]], file)
    _check_folder(folder, manifest, file)
    return manifest


def _check_folder(folder: Path, manifest: Manifest, file: YamlFile) -> None:
    folder_name = folder.resolve().name
    if manifest.name != folder_name:
        raise file.error(
            ("name",),
            f"'{manifest.name}' is not the folder's name '{folder_name}'",
            fix="rename one of the two",
        )
    for loc, relative in manifest.paths().items():
        problem = path_problem(folder, relative)
        if problem:
            raise file.error(loc, problem)
