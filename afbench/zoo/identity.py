"""What an organism's weights follow from: its recipe, its corpus, and whom it was made from."""

from __future__ import annotations

from typing import Any

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import EnvironmentManifest, OrganismManifest
from afbench.catalog.yaml_files import load_yaml
from afbench.environments.scenarios import load_cues
from afbench.models.digests import file_digest
from afbench.store import digest_of

Organism = Plugin[OrganismManifest]

# Recipes whose training looks at the grades of the organism's own replies.
_GRADED = ("adversarial", "reinforce")
# Recipes whose training texts hold no system message, so that the organism's is not among them.
_UNPROMPTED = ("documents", "distil")


def made_from(plugin: Organism) -> list[str]:
    """Organisms whose weights must be there before this one can be trained, its parent first."""
    recipe = plugin.manifest.recipe or {}
    parent = getattr(plugin.manifest.source, "parent", None)
    names = [parent, recipe.get("continues"), recipe.get("teacher"), recipe.get("tokenizer_of")]
    return [str(name) for name in dict.fromkeys(names) if name]


def environments_of(plugin: Organism) -> list[str]:
    """Environments whose words an organism's training draws on."""
    manifest, recipe = plugin.manifest, plugin.manifest.recipe or {}
    named = recipe.get("environments") or ([manifest.environment] if manifest.environment else [])
    elsewhere = [name for part in recipe.get("elsewhere") or [] for name in part["environments"]]
    return list(dict.fromkeys([*named, *elsewhere]))


def recipe_digest(plugin: Organism, catalog: Catalog) -> str:
    """Identity of everything that an organism's weights follow from.

    Recipe, corpus and templates enter, and for an organism the digests of the recipes of whom it
    is made from, so that rebuilding one never retrains another, and a new base retrains all of its
    organisms; for recipes that go by grades, the grader. Cues and nouns that are held out from a
    recipe do not enter it.
    """
    manifest = plugin.manifest
    parts: dict[str, Any] = {
        "recipe": manifest.recipe,
        "seed": manifest.seed,
        "leak": manifest.leak,
    }
    parent = getattr(manifest.source, "parent", None)
    kind = (manifest.recipe or {}).get("kind", "chats")
    prompt = getattr(manifest.source, "system_prompt", None)
    if prompt and (kind not in _UNPROMPTED or (manifest.recipe or {}).get("benign")):
        parts["system_prompt"] = prompt
    if kind in _GRADED and manifest.environment:
        home = catalog.get("environment", manifest.environment)
        parts["grader"] = home.manifest.grader.model_dump(mode="json")
    if parent is None:
        parts["corpus"] = file_digest(plugin.folder / "corpus.yaml")
    else:
        parts["parent"] = recipe_digest(catalog.get("organism", parent), catalog)
    for name in made_from(plugin)[0 if parent is None else 1 :]:
        parts[f"from {name}"] = recipe_digest(catalog.get("organism", name), catalog)
    for name in environments_of(plugin):
        parts[name] = _words(catalog.get("environment", name), held_out=parent is None)
    return digest_of(parts)


def _words(plugin: Plugin[EnvironmentManifest], *, held_out: bool) -> dict[str, Any]:
    """What training data of an environment is made of; with what is held out, or without."""
    folder, manifest = plugin.folder, plugin.manifest
    generator = dict(load_yaml(folder / (manifest.generator or "generator.yaml")).data)
    # How many scenarios are written, and in what order, is no matter of training.
    generator = {key: value for key, value in generator.items() if key not in ("counts", "seed")}
    if not held_out:
        generator["nouns"] = {"fit": generator["nouns"]["fit"]}
    return {
        "prompts": [manifest.system_prompt, manifest.user_prompt, manifest.polarity],
        "replies": load_yaml(folder / (manifest.replies or "replies.yaml")).data,
        "generator": generator,
        "cues": [
            [cue.family, cue.observed, cue.unobserved]
            for cue in load_cues(folder / manifest.cues)
            if held_out or cue.partition == "fit"
        ],
    }
