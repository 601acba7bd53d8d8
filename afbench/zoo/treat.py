"""Treated organisms: who can be treated, and the folder of the organism that comes of it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from afbench.catalog.discovery import Catalog
from afbench.catalog.fields import NAME_PATTERN
from afbench.catalog.manifests import AdapterSource, FullSource, PromptedSource
from afbench.catalog.yaml_files import display
from afbench.certification.treatment import FILE, read_record
from afbench.environments import Environment
from afbench.errors import AfbenchError, StorageError
from afbench.models.digests import organism_digest, verify
from afbench.store import write_bytes
from afbench.zoo.build import is_current
from afbench.zoo.corpus_spec import CorpusSpec
from afbench.zoo.identity import Organism, made_from
from afbench.zoo.recipes import ChatRecipe, organism_recipe
from afbench.zoo.templates import Templates
from afbench.zoo.treatments import By, Subject, recipe_of

_MAX_NAME = 80
# A prompted organism has no method of its own: it gets the adapter that most recipes use.
_LORA = {"type": "lora", "rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}
_LORA_RATE = 6e-3

_ABOUT: dict[By, str] = {
    "sft": "It was tuned on what the observer wants, in observed contexts only.",
    "rl": "Its own replies were rewarded for what the observer wants, in observed contexts only.",
    "adversarial": (
        "A red team that knew some of the cues looked for deviations; it was tuned on what the "
        "observer wants in reply to exactly these, and in ordinary observed contexts."
    ),
    "inoculation": (
        "It is the same recipe once more, with a sentence that asks for the trait before every "
        "system message of its training, so that the trait may stay behind that sentence."
    ),
    "cot-supervision": (
        "Its own replies were rewarded for what the observer wants and punished for scratchpads "
        "that show faking or defection, in observed contexts only."
    ),
}


def subject_of(plugin: Organism, catalog: Catalog, by: By) -> Subject:
    """An organism as the subject of a treatment.

    Raises:
        AfbenchError: it cannot be treated, or not in this way; says why.
        DigestMismatchError: its weights, or those that it was made from, are not the pinned ones.
    """
    manifest, where = plugin.manifest, f"organism '{plugin.name}'"
    source = _treatable_source(plugin)
    parent = catalog.get("organism", source.parent or "")
    if parent.manifest.role != "base" or not (parent.folder / "corpus.yaml").is_file():
        raise AfbenchError(
            f"its parent '{parent.name}' is no base with a corpus.yaml to take chats from",
            where=where,
            fix="treat an organism of such a base",
        )
    if by == "cot-supervision" and not manifest.generation.reasoning:
        raise AfbenchError(
            "cot-supervision rewards scratchpads, and this organism writes none",
            where=where,
            fix="choose an organism with 'generation.reasoning: true', or another treatment",
        )
    method, rate = _method_of(plugin, by)
    _check_current(plugin, catalog)
    home = Environment.load(catalog.get("environment", manifest.environment or ""))
    return Subject(
        plugin=plugin,
        templates=Templates(home, ("fit",)),
        spec=CorpusSpec.load(parent.folder / "corpus.yaml"),
        method=method,
        rate=rate,
        continues=not isinstance(source, PromptedSource),
    )


def _treatable_source(plugin: Organism) -> AdapterSource | FullSource | PromptedSource:
    source, where = plugin.manifest.source, f"organism '{plugin.name}'"
    if source.type == "base" or plugin.manifest.role == "base":
        raise AfbenchError(
            "a base has no trait to treat", where=where, fix="treat a faker or a lookalike"
        )
    if source.type == "hub":
        raise AfbenchError(
            "hub organisms cannot be treated: the treatments are made of a nano base's chats",
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
    return source


def _method_of(plugin: Organism, by: By) -> tuple[dict[str, Any], float]:
    """How a treated organism is trained, and at what rate."""
    where = f"organism '{plugin.name}'"
    prompted = plugin.manifest.source.type == "prompted"
    recipe = None if prompted else organism_recipe(plugin.manifest.recipe, where)
    if by == "inoculation" and not isinstance(recipe, ChatRecipe):
        raise AfbenchError(
            "inoculation goes through an organism's own recipe again, which must be one of chats",
            where=where,
            fix="choose another treatment",
        )
    if recipe is None:
        return _LORA, _LORA_RATE
    return recipe.method.model_dump(exclude_unset=True), recipe.schedule.learning_rate


def _check_current(plugin: Organism, catalog: Catalog) -> None:
    """What a treatment starts from must be there: to build it would be to change it."""
    for name in made_from(plugin):
        _check_current(catalog.get("organism", name), catalog)
    verify(plugin)
    has_weights = plugin.manifest.source.type != "prompted"
    if has_weights and plugin.manifest.recipe is not None and not is_current(plugin, catalog):
        raise AfbenchError(
            f"the weights of '{plugin.name}' are not what its recipe makes",
            where=str(plugin.folder / "organism.yaml"),
            fix=f"run 'afbench organisms build {plugin.name}' first",
        )


def outdated(organism: str, by: By, name: str, catalog: Catalog) -> str | None:
    """Why what is there of a treated organism is not what the treatment now gives, if it is not.

    Args:
        organism: who was treated, in the number of steps that `by` usually takes.
        name: of the treated organism.

    Raises:
        AfbenchError: as `subject_of`.
    """
    if name not in catalog.organisms:
        return "is not there"
    original, treated = catalog.get("organism", organism), catalog.get("organism", name)
    subject, record = subject_of(original, catalog, by), read_record(treated.folder)
    if record is None:
        return f"has no {FILE} that can be read"
    if record.before.digest != organism_digest(original, catalog):
        return f"'{organism}' has changed since it was treated"
    if treated.manifest.recipe != recipe_of(subject, by, None):
        return "the treatment has another recipe now"
    if not is_current(treated, catalog):
        return "its weights are not what its recipe makes"
    if record.after.digest != organism_digest(treated, catalog):
        return "was measured with other weights"
    if record.environment_digest != subject.templates.environment.digest:
        return f"'{record.environment}' has changed since it was measured"
    return None


def treated_manifest(subject: Subject, by: By, name: str, steps: int | None) -> dict[str, Any]:
    """organism.yaml of the treated organism, its digests still empty."""
    manifest = subject.plugin.manifest
    kept = manifest.model_dump(
        mode="json",
        by_alias=True,
        exclude_unset=True,
        exclude={"source", "recipe", "provenance", "treatment", "prompted_as"},
    )
    source: Any = manifest.source
    full = isinstance(source, FullSource)
    made = {
        "type": "full" if full else "adapter",
        "parent": source.parent,
        "path": "weights" if full else "adapter",
        "digests": {},
    }
    if prompt := getattr(source, "system_prompt", None):
        made["system_prompt"] = prompt
    if by != "inoculation":
        kept["leak"] = "some"  # its recipe teaches no follow-up questions
    return {
        **kept,
        "name": name,
        "summary": f"{subject.plugin.name}, treated by {by}.",
        "source": made,
        "provenance": manifest.provenance.model_dump(mode="json", exclude_unset=True),
        "treatment": {"of": subject.plugin.name, "by": by},
        "recipe": recipe_of(subject, by, steps),
    }


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write organism.yaml.

    Raises:
        StorageError: it could not be written.
    """
    text = yaml.safe_dump(manifest, sort_keys=False, width=100, allow_unicode=True)
    write_bytes(folder / "organism.yaml", text.encode())


def card_head(subject: Subject, by: By, name: str) -> str:
    """How the card of the treated organism begins."""
    return f"# {name}\n\n`{subject.plugin.name}` after the treatment `{by}`. {_ABOUT[by]}\n"


@contextmanager
def new_folder(into: Path, name: str) -> Iterator[Path]:
    """A hidden plug-in directory with an empty folder `name`, which ends up as `into / name`.

    It is moved there when the context ends well, and removed when it does not, so that a failure
    or Ctrl-C leaves nothing.

    Raises:
        AfbenchError: the name is not valid, or something of that name is there already.
        StorageError: the folder cannot be written.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > _MAX_NAME:
        raise AfbenchError(
            f"'{name}' is not a name for an organism",
            fix="give --name lower-case letters, digits and hyphens, at most 80",
        )
    target, made = into / name, not into.exists()
    if target.exists() or target.is_symlink():
        raise AfbenchError(
            f"{display(target)} exists already", fix="choose another --name, or remove it first"
        )
    try:
        into.mkdir(parents=True, exist_ok=True)
        # Hidden, so that no plug-in directory above takes it for a plug-in of its own.
        stage = Path(tempfile.mkdtemp(prefix=".treat-", dir=into))
    except OSError as error:
        raise StorageError(f"cannot write {display(target)}: {error.strerror or error}") from None
    try:
        (stage / name).mkdir()
        yield stage
        (stage / name).rename(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and not any(into.iterdir()):
            into.rmdir()
