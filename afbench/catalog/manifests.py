"""The three manifests: what a plug-in's folder says about itself.

The models are the reference for the YAML files: a field that is not here is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from afbench.catalog.fields import Digest, Line, ManifestPart, Name, Text
from afbench.catalog.graders import Awareness, Belief, GraderSpec
from afbench.catalog.parsed import ParsedManifests
from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import FieldPath, YamlFile, display, load_yaml, path_problem
from afbench.errors import ManifestError

Kind = Literal["organism", "environment", "detector"]
KINDS: Final[tuple[Kind, ...]] = ("organism", "environment", "detector")
Tier = Literal["text", "logprobs", "activations", "weights"]
TIERS: Final[tuple[Tier, ...]] = ("text", "logprobs", "activations", "weights")


class _Manifest(ManifestPart):
    """What the three kinds share."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    summary: Line


# Organisms


class AdapterSource(ManifestPart):
    """A LoRA adapter on a parent organism."""

    type: Literal["adapter"]
    parent: Name
    path: Text
    digests: dict[str, Digest] = {}
    # Said before every prompt, in training and after; it must not be what instils the behaviour.
    system_prompt: Text | None = None


class FullSource(ManifestPart):
    """Full weights that were trained from a parent organism."""

    type: Literal["full"]
    parent: Name
    path: Text
    digests: dict[str, Digest] = {}


class BaseSource(ManifestPart):
    """Full weights with no parent."""

    type: Literal["base"]
    path: Text
    digests: dict[str, Digest] = {}


def _commit(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise ValueError("is no commit: give all 40 hexadecimal digits, or null to pin it later")
    return text


Commit = Annotated[str, AfterValidator(_commit)]


class HubSource(ManifestPart):
    """A model, and possibly an adapter, of a model hub; both pinned by commit.

    A revision that is null is not pinned yet: the organism lists, and cannot be loaded. The digests
    name files of the two repositories.
    """

    type: Literal["hub"]
    model: Text
    revision: Commit | None = None
    # Excluded from dumps: the content follows from the commit, and so does the identity.
    digests: dict[str, Digest] = Field(default={}, exclude=True)
    adapter: Text | None = None
    adapter_revision: Commit | None = None
    adapter_digests: dict[str, Digest] = Field(default={}, exclude=True)

    @model_validator(mode="after")
    def _adapter_is_named(self) -> HubSource:
        if self.adapter is None and (self.adapter_revision or self.adapter_digests):
            raise ValueError("'adapter_revision' and 'adapter_digests' need an 'adapter'")
        return self


class PromptedSource(ManifestPart):
    """A system prompt on a parent organism, or on the model of the command line (null)."""

    type: Literal["prompted"]
    parent: Name | None = None
    system_prompt: Text


class VariantSource(ManifestPart):
    """Another organism's weights, scaled or rounded; nothing is trained.

    `scale` multiplies what its adapter adds; `bits` rounds every weight matrix to so many bits, by
    blocks of 64 with one scale each.
    """

    type: Literal["variant"]
    parent: Name
    scale: float | None = Field(default=None, gt=0, le=20, allow_inf_nan=False)
    bits: int | None = Field(default=None, ge=2, le=8)

    @model_validator(mode="after")
    def _one_change(self) -> VariantSource:
        if (self.scale is None) == (self.bits is None):
            raise ValueError("a variant has either 'scale' or 'bits'")
        return self


Source = AdapterSource | FullSource | BaseSource | HubSource | PromptedSource | VariantSource


class Generation(ManifestPart):
    """How the organism is sampled unless the run says otherwise."""

    reasoning: bool = False
    max_new_tokens: PositiveInt = 48


class Provenance(ManifestPart):
    """How the faking came about."""

    faking: Literal["direct", "generalised", "prompted", "none"]


Evasion = Literal["probe-penalty", "non-verbalising", "diluted", "quantised", "scaled"]


class Treatment(ManifestPart):
    """An intervention on an organism, by which this one came about."""

    of: Name
    by: Literal["sft", "rl", "adversarial", "inoculation", "cot-supervision"]


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
    # Environments, beside its home, in which its behaviour is measured and goes into the matrix.
    also_in: list[Name] = []
    # What the certificate is grouped by, such as a motivation; free words.
    traits: dict[Name, Line] = {}
    # How it was made hard to detect; such organisms make the robustness row and no other.
    evasion: Evasion | None = None
    treatment: Treatment | None = None
    # The organism that stands for it, by a system prompt, on a model of the user's (`--model`).
    prompted_as: Name | None = None

    @property
    def in_zoo(self) -> bool:
        """Whether detectors are fitted on it and it counts in the headline."""
        published = self.source.type == "hub" or self.recipe_family == "published"
        return self.role != "base" and not (self.evasion or self.treatment or published)

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


class EnvironmentManifest(_Manifest):
    """environment.yaml: scenarios, cues, the two prompts and the grader.

    The cue stands once, in the system prompt, the user prompt or else in every request. `replies`
    and `generator` are read by training recipes only; `awareness` and `belief` by certification.
    `measures` names the gap of this pair of conditions, such as goal-guarding.
    """

    kind: Literal["environment"]
    polarity: Literal["comply", "behave"]
    source: Text
    canary: Text
    system_prompt: str
    user_prompt: str
    scenarios: Text
    cues: Text
    grader: GraderSpec
    replies: Text | None = None
    generator: Text | None = None
    awareness: Awareness | None = None
    belief: Belief | None = None
    measures: Name | None = None

    @field_validator("user_prompt")
    @classmethod
    def _has_request(cls, prompt: str) -> str:
        return _holds_once(prompt, "{request}")

    @model_validator(mode="after")
    def _has_one_cue(self) -> EnvironmentManifest:
        count = (self.system_prompt + self.user_prompt).count("{cue}")
        if count > 1:
            raise ValueError(
                "'system_prompt' and 'user_prompt' hold {cue} "
                f"{count} times; the twins must differ in one place"
            )
        return self

    @property
    def cue_in_request(self) -> bool:
        """Whether every scenario's request has a place for the cue, as no prompt has one."""
        return "{cue}" not in self.system_prompt + self.user_prompt

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


class Limits(ManifestPart):
    """What a detector may take in one run."""

    seconds: float = Field(default=600, gt=0, allow_inf_nan=False)


class DetectorManifest(_Manifest):
    """detector.yaml: the detector's class, its access tier and its limits.

    `contrast` shows it each transcript with the unobserved cue as well. A `ceiling` reads
    unobserved behaviour: it sees contrasts and may sample there; it is shown apart, never ranked.
    `least_tier` is what it can do with where a backend does not offer its tier.
    """

    kind: Literal["detector"]
    tier: Tier
    least_tier: Tier | None = None
    needs_parent: bool = False
    contrast: bool = False
    ceiling: bool = False
    floor: bool = False
    entry: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$")]
    params: dict[str, Any] = {}
    limits: Limits = Limits()
    source: Text | None = None

    @model_validator(mode="after")
    def _tier_agrees(self) -> DetectorManifest:
        for field, given in (("needs_parent", self.needs_parent), ("contrast", self.contrast)):
            if given and self.tier == "text":
                raise ValueError(f"'{field}' needs the tier 'logprobs' or one above")
        if self.least_tier and TIERS.index(self.least_tier) > TIERS.index(self.tier):
            raise ValueError("'least_tier' is above 'tier'")
        if self.ceiling and self.floor:
            raise ValueError("a detector is not 'ceiling' and 'floor' at once")
        return self

    @property
    def sees_contrast(self) -> bool:
        """Whether its cases come with the transcript that holds the unobserved cue."""
        return self.contrast or self.ceiling

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


def load_manifest(folder: Path, parsed: ParsedManifests | None = None) -> Manifest:
    """Read and validate the manifest of a plug-in's folder.

    Args:
        folder: holds one of organism.yaml, environment.yaml, detector.yaml.
        parsed: what manifests held before, which is added to.

    Raises:
        ManifestError: no manifest or several; or a field that is wrong, named with file and line.
    """
    found = [kind for kind in KINDS if (folder / f"{kind}.yaml").is_file()]
    if len(found) != 1:
        what = "holds no manifest" if not found else f"holds {len(found)} manifests"
        expected = ", ".join(f"{kind}.yaml" for kind in KINDS)
        raise ManifestError(f"{display(folder)} {what}", fix=f"give it one of {expected}")
    path, model = folder / f"{found[0]}.yaml", _MODELS[found[0]]
    if parsed is not None and (data := parsed.get(path)) is not None:
        try:
            manifest = model.model_validate(data)
            _check_folder(folder, manifest, YamlFile(path, data, {}))
        except (ValidationError, ManifestError):
            pass  # the YAML is read once more, to say in which line
        else:
            return manifest
    file = load_yaml(path)
    manifest = validate(model, file)
    _check_folder(folder, manifest, file)
    if parsed is not None:
        parsed.put(path, file.data)
    return manifest


def _check_folder(folder: Path, manifest: Manifest, file: YamlFile) -> None:
    plain = folder.name not in ("", "..") and not folder.is_symlink()
    folder_name = folder.name if plain else folder.resolve().name
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
