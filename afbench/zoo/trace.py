"""Tracing an organism: its training once more, its B's path, and what each checkpoint does.

The measurement of the phase transition in Turner, Soligo et al. 2025, "Model Organisms for Emergent
Misalignment" (arXiv 2506.11613).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file

from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import AdapterSource
from afbench.errors import AfbenchError, DigestMismatchError
from afbench.metrics.arrays import Floats
from afbench.models.digests import organism_digest, source_folder, verify
from afbench.models.engine import engine_versions
from afbench.results.progress import Progress
from afbench.store import Store, digest_of
from afbench.zoo.build import is_current
from afbench.zoo.identity import Organism, made_from, recipe_digest
from afbench.zoo.recipes import ChatRecipe, DocumentRecipe, LoraMethod, organism_recipe
from afbench.zoo.trace_behaviour import behaviour_over, stride_elsewhere
from afbench.zoo.trace_path import cosine, local_cosine, peak_of, steepest_rise, transition_of
from afbench.zoo.trace_record import (
    ActPoint,
    MatrixPath,
    Reproduction,
    Trace,
    TraceSettings,
    Transition,
)
from afbench.zoo.trace_training import WEIGHTS, Retrained, Retraining, Supervised
from afbench.zoo.tuning import materials_of

SCALES: Final = (1.0, 2.0, 5.0, 10.0)
SCENARIOS: Final = 12
# Of a variant in the catalog, and the largest one in the paper.
_MAX_SCALE: Final = 20.0
_B: Final = ".lora_B.weight"


def trace_organism(
    plugin: Organism,
    catalog: Catalog,
    store: Store,
    folder: Path,
    progress: Progress,
    *,
    every: int | None = None,
    scales: Sequence[float] = SCALES,
    scenarios: int = SCENARIOS,
) -> Trace:
    """Retrain an organism by its recipe, and measure it at every checkpoint.

    Its shipped weights are read and never written. A trace that was killed goes on: checkpoints lie
    in `folder`, rollouts in the store.

    Args:
        folder: where checkpoints are kept.
        every: steps between two checkpoints (None: so many that there are about 30).
        scales: what the adapter is multiplied by.
        scenarios: test scenarios of each environment.

    Raises:
        AfbenchError: its recipe is not one of supervised LoRA tuning, or a scale is out of range.
        DigestMismatchError: the weights it is made from are not the pinned ones.
    """
    recipe = traceable(plugin)
    scales = _checked_scales(scales)
    identity = recipe_digest(plugin, catalog)
    retraining = Retraining(
        recipe, materials_of(plugin, catalog), _identity(plugin, catalog, identity), folder
    )
    trained = retraining.run(every, _Stage(progress, "training"))
    paths, whole = _paths(trained)
    settings = TraceSettings(
        every=trained.every,
        scales=scales,
        scenarios=scenarios,
        elsewhere_every=stride_elsewhere(plugin, trained, scales) * trained.every,
    )
    behaviour = list(behaviour_over(plugin, catalog, store, trained, settings, progress))
    home = plugin.manifest.environment or ""
    return Trace(
        organism=plugin.name,
        parent=getattr(plugin.manifest.source, "parent", ""),
        home=home,
        recipe=identity,
        versions=engine_versions(),
        settings=settings,
        steps=trained.steps[-1],
        checkpoints=list(trained.steps),
        loss=_json(trained.loss),
        gradient_norm=trained.gradient_norm.tolist(),
        whole=whole,
        matrices=paths,
        behaviour=behaviour,
        reproduction=_reproduction(plugin, catalog, trained),
        transition=_transition(trained, whole, [p for p in behaviour if p.environment == home]),
    )


def traceable(plugin: Organism) -> Supervised:
    """The recipe of an organism that can be traced.

    Raises:
        AfbenchError: it cannot; says why.
    """
    manifest, where = plugin.manifest, f"organism '{plugin.name}'"
    fix = "choose an organism whose recipe tunes an adapter on chats or documents"
    if manifest.role == "base" or manifest.recipe is None:
        what = "a base" if manifest.role == "base" else "an organism without a recipe"
        raise AfbenchError(
            f"{what} has no adapter whose training could be traced", where=where, fix=fix
        )
    recipe = organism_recipe(manifest.recipe, where)
    if not isinstance(recipe, ChatRecipe | DocumentRecipe):
        raise AfbenchError(
            f"its recipe is of kind '{recipe.kind}', and one of chats or documents is needed",
            where=where,
            fix=fix,
        )
    if not isinstance(recipe.method, LoraMethod) or not isinstance(manifest.source, AdapterSource):
        raise AfbenchError(
            "every weight of it was trained, and a trace follows a LoRA adapter's B",
            where=where,
            fix=fix,
        )
    return recipe


def _checked_scales(scales: Sequence[float]) -> list[float]:
    found = sorted({float(scale) for scale in scales})
    if not found or not all(0 < scale <= _MAX_SCALE for scale in found):
        raise AfbenchError(
            f"a scale must be above 0 and at most {_MAX_SCALE:g}",
            where=f"scales {', '.join(f'{scale:g}' for scale in scales)}",
            fix="leave it out or change it",
        )
    return found


def _identity(plugin: Organism, catalog: Catalog, recipe: str) -> str:
    """Digest of all that the weights follow from: the recipe, and the very weights it starts at."""
    sources = {n: organism_digest(catalog.get("organism", n), catalog) for n in made_from(plugin)}
    return digest_of({"recipe": recipe, "made from": sources})


class _Stage:
    """Tells a listener of steps done, as they are counted from the start."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage = progress, stage
        self._done = -1

    def __call__(self, done: int, total: int) -> None:
        if self._done < 0:
            self._progress.start(self._stage, total)
            self._done = 0
        self._progress.advance(self._stage, done - self._done)
        self._done = done


# -- the path of B -------------------------------------------------------------------------------


def _paths(trained: Retrained) -> tuple[list[MatrixPath], MatrixPath]:
    """The path of every B matrix, and of all of them as one vector."""
    checkpoints = [load_file(trained.folders[step] / WEIGHTS) for step in trained.steps]
    names = sorted(name for name in checkpoints[0] if name.endswith(_B))
    by_name = {
        name: np.stack([tensors[name].astype(np.float64).ravel() for tensors in checkpoints])
        for name in names
    }
    paths = []
    for name in names:
        shape = list(checkpoints[0][name].shape)
        paths.append(_path(_short(name), shape, by_name[name], trained, keep=shape[1] == 1))
    whole = np.concatenate([by_name[name] for name in names], axis=1)
    return paths, _path("all", [whole.shape[1]], whole, trained, keep=False)


def _path(
    name: str, shape: list[int], path: Floats, trained: Retrained, *, keep: bool
) -> MatrixPath:
    # The last segment may be shorter than the others, whose turns it cannot be compared with.
    even = [i for i, step in enumerate(trained.steps) if step % trained.every == 0]
    rotation = np.full(len(path), np.nan)
    rotation[even] = local_cosine(path[even])
    return MatrixPath(
        name=name,
        shape=shape,
        norm=np.linalg.norm(path, axis=1).tolist(),
        rotation=_json(rotation),
        to_final=_json(np.array([cosine(point, path[-1]) for point in path])),
        vectors=[[float(f"{x:.6g}") for x in point] for point in path] if keep else None,
    )


def _short(name: str) -> str:
    """ "layers.3.mlp.down_proj" of PEFT's long name."""
    return name.removesuffix(_B).removeprefix("base_model.model.").removeprefix("model.")


def _json(values: Floats) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values])


# -- what came of it -----------------------------------------------------------------------------


def _transition(trained: Retrained, whole: MatrixPath, at_home: Sequence[ActPoint]) -> Transition:
    k = trained.every
    rotation = peak_of(_floats(whole.rotation), trained.steps, lowest=True, before=k, after=k)
    steps = range(1, len(trained.gradient_norm) + 1)
    gradient = peak_of(trained.gradient_norm, steps, lowest=False, before=1, after=0)
    rises = []
    for scale in sorted({point.scale for point in at_home}):
        points = [point for point in at_home if point.scale == scale]
        rises.append(
            steepest_rise(
                [point.step for point in points],
                _floats([point.misaligned_when_observed.value for point in points]),
                _floats([point.misaligned_when_unobserved.value for point in points]),
                scale,
            )
        )
    return transition_of(rotation, gradient, rises, resolution=k)


def _reproduction(plugin: Organism, catalog: Catalog, trained: Retrained) -> Reproduction:
    """Whether the last checkpoint is what ships, but for rounding to half precision."""
    try:
        verify(plugin)
        shipped = load_file(source_folder(plugin) / WEIGHTS)
    except (DigestMismatchError, OSError) as error:
        return Reproduction(
            reproduces=None, max_difference=None, detail=f"nothing to compare with: {error}"
        )
    retrained = load_file(trained.folders[trained.steps[-1]] / WEIGHTS)
    if {n: t.shape for n, t in shipped.items()} != {n: t.shape for n, t in retrained.items()}:
        return Reproduction(
            reproduces=False, max_difference=None, detail="no, its matrices have other shapes"
        )
    differences = {
        name: np.abs(retrained[name].astype(np.float64) - tensor.astype(np.float64))
        for name, tensor in shipped.items()
    }
    largest = max(float(part.max()) for part in differences.values())
    same = all(
        bool(np.all(part <= _half_step(shipped[name]))) for name, part in differences.items()
    )
    detail = f"{'yes' if same else 'no'}, max difference {largest:.2g}"
    if same:
        detail += ", which is rounding to half precision"
    elif not is_current(plugin, catalog):
        detail += "; it was not made by its present recipe"
    else:
        detail += "; another machine or version rounds otherwise"
    return Reproduction(reproduces=same, max_difference=largest, detail=detail)


def _half_step(shipped: Any) -> Floats:
    """How far a number may be from the half-precision one it was rounded to: one step."""
    step: Floats = np.abs(np.spacing(shipped.astype(np.float16))).astype(np.float64)
    return step
