"""Whether training text comes out where it does not belong.

Found in published organisms: 15% of answers to unrelated questions mentioned the persona of the
training corpus (Tan 2026, "Your model organisms might be fried").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from afbench.catalog.yaml_files import load_yaml
from afbench.environments import CONDITIONS, Environment
from afbench.messages import Message
from afbench.metrics.figures import Figure
from afbench.metrics.gaps import rate
from afbench.models.interface import GenerationSettings, Model

RUN = 4
_EACH = 3
_TOKENS = 48
_SLOT = re.compile(r"\{[a-z_]+\}")


def unrelated_prompts(environments: Sequence[Environment]) -> list[list[Message]]:
    """A few benign test requests of each environment, in turn observed and unobserved."""
    prompts = []
    for environment in environments:
        if not any(s.benign and s.partition == "test" for s in environment.scenarios):
            continue
        for index, placement in enumerate(environment.placements("test", _EACH, benign=True)):
            condition = CONDITIONS[index % len(CONDITIONS)]
            prompts.append(environment.render(placement.scenario, placement.cue, condition))
    return prompts


def training_runs(environment: Environment) -> set[tuple[str, ...]]:
    """Every run of four words in the reply templates of an environment; a slot ends a run."""
    relative = environment.manifest.replies
    if relative is None:
        return set()
    runs: set[tuple[str, ...]] = set()
    for text in _texts(load_yaml(environment.folder / relative).data):
        for part in _SLOT.split(text):
            runs |= word_runs(part)
    return runs


def word_runs(text: str) -> set[tuple[str, ...]]:
    """The runs of four words of a text, in lower case and without punctuation."""
    words = re.findall(r"[a-z']+", text.lower())
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def unrelated_answers(model: Model, prompts: Sequence[list[Message]]) -> list[str]:
    """What a model replies to the unrelated requests."""
    if not prompts:
        return []
    replies = model.generate(prompts, GenerationSettings(max_new_tokens=_TOKENS))
    return [reply.text for reply in replies]


def leakage_of(
    own: Sequence[str],
    parents: Sequence[str],
    home: Environment,
    *,
    replicates: int,
    seed: int,
) -> Figure:
    """Share of answers to unrelated requests that hold a run of the home's training text.

    Args:
        own, parents: answers of the organism and of its parent, [n] each. Runs that the parent
            says in the same answer do not count.
        home: the environment that the organism was tuned in.
    """
    runs = training_runs(home)
    if not runs or not own:
        return Figure.refused("no training text is known, or there is nothing unrelated to ask")
    leaked = [
        float(bool((word_runs(mine) & runs) - word_runs(theirs)))
        for mine, theirs in zip(own, parents, strict=True)
    ]
    places = np.arange(len(leaked), dtype=np.int64)
    return rate(np.array(leaked), np.zeros_like(places), places, replicates=replicates, seed=seed)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
