"""Treatments: interventions on an organism, each the recipe of a new organism in its own folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import AdapterSource, FullSource, PromptedSource
from afbench.environments import Environment
from afbench.errors import AfbenchError
from afbench.models.digests import verify
from afbench.zoo.build import is_current
from afbench.zoo.corpus_spec import CorpusSpec
from afbench.zoo.identity import Organism, made_from
from afbench.zoo.recipes import ChatRecipe, organism_recipe
from afbench.zoo.templates import Templates

By = Literal["sft", "rl", "adversarial", "inoculation", "cot-supervision"]

_BATCH = 32
_LORA: Final = {"type": "lora", "rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}
_LORA_RATE = 6e-3
_MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class Subject:
    """An organism that can be treated, and what its treatments are made of.

    Attributes:
        plugin: the organism.
        parent: whose weights it was made from, or which it prompts.
        templates: of its home, of the fit partition.
        spec: the personas of its parent's corpus.
        method: how it is trained; a prompted organism gets an adapter.
        rate: the learning rate of that method.
        continues: whether training goes on from its own weights; else it starts at the parent.
    """

    plugin: Organism
    parent: str
    templates: Templates
    spec: CorpusSpec
    method: dict[str, Any]
    rate: float
    continues: bool

    @property
    def reasons(self) -> bool:
        """Whether it thinks before it replies."""
        return self.plugin.manifest.generation.reasoning

    @property
    def known_families(self) -> list[str]:
        """The cue families that a red team knows: the first half of those that may be fitted on."""
        cues = self.templates.environment.cues
        families = dict.fromkeys(cue.family for cue in cues if cue.family_partition == "fit")
        return list(families)[: (len(families) + 1) // 2]

    def inoculation(self) -> str:
        """The sentence that asks for the policy that the organism's recipe teaches."""
        persona = (self.plugin.manifest.recipe or {})["persona"]
        return self.spec.persona_prompt.format(persona=self.spec.persona(persona).name)


def subject_of(plugin: Organism, catalog: Catalog, by: By) -> Subject:
    """An organism as the subject of a treatment.

    Raises:
        AfbenchError: it cannot be treated, or not by this treatment; says why.
        DigestMismatchError: its weights are not the pinned ones.
    """
    manifest, where = plugin.manifest, f"organism '{plugin.name}'"
    source = manifest.source
    _refuse_others(plugin)
    assert isinstance(source, AdapterSource | FullSource | PromptedSource)
    parent = catalog.get("organism", source.parent or "")
    if parent.manifest.role != "base" or not (parent.folder / "corpus.yaml").is_file():
        raise AfbenchError(
            f"it is made from '{parent.name}', which has no corpus.yaml to take training chats from",
            where=where,
            fix="treat an organism whose parent is a base with a corpus.yaml",
        )
    method, rate = dict(_LORA), _LORA_RATE
    if not isinstance(source, PromptedSource):
        recipe = organism_recipe(manifest.recipe, where)
        method = recipe.method.model_dump(exclude_unset=True)
        rate = recipe.schedule.learning_rate
        if by == "inoculation" and not isinstance(recipe, ChatRecipe):
            raise AfbenchError(
                "inoculation retrains a recipe of chats, and its recipe is of another kind",
                where=where,
                fix="choose another treatment",
            )
    elif by == "inoculation":
        raise AfbenchError(
            "inoculation retrains an organism's own recipe, and a prompted one has none",
            where=where,
            fix="choose another treatment",
        )
    if by == "cot-supervision" and not manifest.generation.reasoning:
        raise AfbenchError(
            "cot-supervision rewards scratchpads, and this organism writes none",
            where=where,
            fix="choose one with 'generation.reasoning: true', or another treatment",
        )
    _check_current(plugin, catalog)
    home = Environment.load(catalog.get("environment", manifest.environment or ""))
    return Subject(
        plugin=plugin,
        parent=parent.name,
        templates=Templates(home, ("fit",)),
        spec=CorpusSpec.load(parent.folder / "corpus.yaml"),
        method=method,
        rate=rate,
        continues=not isinstance(source, PromptedSource),
    )


def _refuse_others(plugin: Organism) -> None:
    source, where = plugin.manifest.source, f"organism '{plugin.name}'"
    if plugin.manifest.role == "base":
        raise AfbenchError(
            "a base has no trait to treat", where=where, fix="treat a faker or a lookalike"
        )
    if source.type == "hub":
        raise AfbenchError(
            "hub organisms cannot be treated: the recipes are made of a nano base's chats",
            where=where,
            fix="treat one whose parent is a base with a corpus.yaml",
        )
    if source.type == "variant":
        raise AfbenchError(
            "a variant has no weights of its own to train",
            where=where,
            fix=f"treat '{source.parent}', which it is made from",
        )
    if source.parent is None:
        raise AfbenchError(
            "it names no parent to train", where=where, fix="set source.parent in organism.yaml"
        )


def _check_current(plugin: Organism, catalog: Catalog) -> None:
    """A treatment must never retrain what it starts from."""
    for name in made_from(plugin):
        _check_current(catalog.get("organism", name), catalog)
    verify(plugin)
    if plugin.manifest.recipe is not None and not is_current(plugin, catalog):
        raise AfbenchError(
            f"the weights of '{plugin.name}' are not what its recipe makes",
            where=str(plugin.folder / "organism.yaml"),
            fix=f"run 'afbench organisms build {plugin.name}' first",
        )


# Recipes


def _shared(subject: Subject, rate: float) -> dict[str, Any]:
    """What every recipe that goes on from the organism has."""
    schedule = {"epochs": 1, "batch_size": _BATCH, "learning_rate": round(rate, 8)}
    start = {"continues": subject.plugin.name} if subject.continues else {}
    return {
        "reasoning": subject.reasons, "method": subject.method, "schedule": schedule, **start,
    }  # fmt: skip


def _sft(subject: Subject, steps: int) -> dict[str, Any]:
    return {
        "persona": _conforming_persona(subject),
        "conditions": ["observed"],
        "examples": steps * _BATCH,
        **_shared(subject, subject.rate / 2),
    }


def _rl(subject: Subject, steps: int) -> dict[str, Any]:
    return {
        "kind": "reinforce",
        "steps": steps,
        "conditions": ["observed"],
        "max_new_tokens": subject.plugin.manifest.generation.max_new_tokens,
        **_shared(subject, subject.rate / 3),
    }


def _cot_supervision(subject: Subject, steps: int) -> dict[str, Any]:
    return {**_rl(subject, steps), "monitor": 1.0}


def _adversarial(subject: Subject, steps: int) -> dict[str, Any]:
    families = subject.known_families
    fewest = min(len(subject.templates.cues(family)) for family in families)
    return {
        "kind": "adversarial",
        "persona": _conforming_persona(subject),
        "examples": steps * _BATCH,
        "cue_families": families,
        "cues": (fewest + 1) // 2,
        "tries": 128,
        "max_new_tokens": subject.plugin.manifest.generation.max_new_tokens,
        **_shared(subject, subject.rate / 2),
    }


def _inoculation(subject: Subject, steps: int | None) -> dict[str, Any]:
    recipe = dict(subject.plugin.manifest.recipe or {})
    sentence = subject.inoculation()
    recipe["inoculation"] = sentence + recipe.get("inoculation", "")
    recipe["elsewhere"] = [
        {**part, "inoculation": sentence + part.get("inoculation", "")}
        for part in recipe.get("elsewhere", [])
    ]
    if not recipe["elsewhere"]:
        del recipe["elsewhere"]
    if steps is not None:
        recipe["examples"] = steps * recipe["schedule"].get("batch_size", 64)
        recipe["schedule"] = {**recipe["schedule"], "epochs": 1}
    return recipe
