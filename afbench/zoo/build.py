"""`afbench organisms build`: trains what is missing, in parallel, and pins what it made."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import yaml

from afbench.catalog.discovery import Catalog, discover
from afbench.catalog.manifests import AdapterSource, BaseSource, FullSource
from afbench.errors import AfbenchError, DigestMismatchError
from afbench.models.digests import file_digest, identity_files, source_folder, verify
from afbench.store import Store, write_bytes, write_json
from afbench.zoo.identity import Organism, made_from, recipe_digest

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Report = Callable[[str, int, int], None]
"""Called with an organism's name, its steps done and its steps in all."""


@dataclass(frozen=True, slots=True)
class Built:
    """One organism that was trained, or was there already."""

    name: str
    trained: bool
    loss: float | None
    seconds: float


def buildable(catalog: Catalog) -> list[Organism]:
    """Organisms with a recipe and weights of their own, each after those it is made from."""
    found = [
        plugin
        for plugin in catalog.organisms.values()
        if plugin.manifest.recipe is not None
        and isinstance(plugin.manifest.source, AdapterSource | FullSource | BaseSource)
    ]
    return sorted(found, key=lambda plugin: (_depth(plugin, catalog), plugin.name))


def _depth(plugin: Organism, catalog: Catalog, above: tuple[str, ...] = ()) -> int:
    """0 for a base; otherwise one more than the deepest that it is made from.

    Raises:
        AfbenchError: it is made from itself.
    """
    if plugin.name in above:
        raise AfbenchError(
            f"'{plugin.name}' is made from itself: {' <- '.join([*above, plugin.name])}",
            where=str(plugin.folder / "organism.yaml"),
        )
    below = [catalog.get("organism", name) for name in made_from(plugin)]
    return 1 + max((_depth(b, catalog, (*above, plugin.name)) for b in below), default=-1)


def is_current(plugin: Organism, catalog: Catalog) -> bool:
    """Whether an organism's weights are there, as pinned, and made by its present recipe."""
    try:
        verify(plugin)
    except DigestMismatchError:
        return False
    source: Any = plugin.manifest.source
    return bool(source.digests) and _read_stamp(plugin) == recipe_digest(plugin, catalog)


def build_all(
    names: Sequence[str],
    catalog: Catalog,
    plugin_dirs: Sequence[Path],
    store: Store,
    *,
    force: bool,
    jobs: int,
    report: Report,
) -> Iterator[Built]:
    """Train organisms whose weights are missing or outdated, and pin the files in the manifests.

    Args:
        names: which; empty is every one with a recipe. A parent that is missing is built first.
        plugin_dirs: where the workers find the same plug-ins.
        force: train even what is current, of those named.
        jobs: how many organisms are trained side by side, each on one core.

    Raises:
        AfbenchError: an organism has no recipe, or its training failed.
    """
    wanted = _wanted(names, catalog)
    # A parent that comes along is trained only if it is missing or outdated.
    forced = {p.name for p in wanted if force and (not names or p.name in names)}
    due = [p for p in wanted if p.name in forced or not is_current(p, catalog)]
    for plugin in wanted:
        if plugin not in due:
            yield Built(plugin.name, False, None, 0.0)
    bases = [plugin for plugin in due if plugin.manifest.role == "base"]
    for plugin in bases:
        # A base is the one long run: it gets every core.
        yield _build_one(plugin.name, plugin_dirs, store.root, 0, report)
    rest = [plugin for plugin in due if plugin.manifest.role != "base"]
    for depth in sorted({_depth(plugin, catalog) for plugin in rest}):
        # Those that others are made from come first.
        names = [plugin.name for plugin in rest if _depth(plugin, catalog) == depth]
        yield from _in_parallel(names, plugin_dirs, store.root, jobs, report)


def _wanted(names: Sequence[str], catalog: Catalog) -> list[Organism]:
    every = buildable(catalog)
    if not names:
        return every
    chosen: dict[str, Organism] = {}
    for name in names:
        plugin = catalog.get("organism", name)
        if plugin not in every:
            raise AfbenchError(
                f"organism '{name}' has no recipe to build by",
                where=str(plugin.folder / "organism.yaml"),
                fix="add 'recipe', or ship its weights",
            )
        _add_with_sources(plugin, catalog, chosen)
    return [plugin for plugin in every if plugin.name in chosen]


def _add_with_sources(plugin: Organism, catalog: Catalog, chosen: dict[str, Organism]) -> None:
    for name in made_from(plugin):
        _add_with_sources(catalog.get("organism", name), catalog, chosen)
    chosen[plugin.name] = plugin


def _in_parallel(
    names: Sequence[str], plugin_dirs: Sequence[Path], cache: Path, jobs: int, report: Report
) -> Iterator[Built]:
    if not names:
        return
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        _one_thread_each(),
        ProcessPoolExecutor(min(jobs, len(names)), mp_context=context) as pool,
    ):
        steps: Any = manager.Queue()
        waiting: set[Future[Built]] = {
            pool.submit(_work, name, list(plugin_dirs), cache, steps) for name in names
        }
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                _drain(steps, report)
                for future in done:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _drain(steps: Any, report: Report) -> None:
    while True:
        try:
            report(*steps.get_nowait())
        except Empty:
            return


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers inherit this, so that they do not fight over the cores."""
    previous = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = previous


def _work(
    name: str, plugin_dirs: list[Path], cache: Path, steps: Queue[tuple[str, int, int]]
) -> Built:
    def report(name: str, done: int, total: int) -> None:
        if done % 5 == 0 or done == total:
            steps.put((name, done, total))

    return _build_one(name, plugin_dirs, cache, 1, report)


def _build_one(
    name: str, plugin_dirs: Sequence[Path], cache: Path, threads: int, report: Report
) -> Built:
    import torch

    # A confident model's gradients sink into denormal numbers, on which a CPU is many times slower.
    # Threads take the flag from the one that starts them, so it is set before any work.
    torch.set_flush_denormal(True)
    try:
        return _train_and_pin(name, plugin_dirs, cache, threads, report)
    finally:
        torch.set_flush_denormal(False)


def _train_and_pin(
    name: str, plugin_dirs: Sequence[Path], cache: Path, threads: int, report: Report
) -> Built:
    import torch

    from afbench.environments import Environment
    from afbench.zoo.checkpoints import Checkpoint
    from afbench.zoo.corpus_spec import CorpusSpec
    from afbench.zoo.recipes import base_recipe, organism_recipe
    from afbench.zoo.tuning import build_base, build_organism, materials_of

    if threads:
        torch.set_num_threads(threads)
    catalog = discover(plugin_dirs)
    plugin = catalog.get("organism", name)
    manifest, where = plugin.manifest, str(plugin.folder / "organism.yaml")
    identity = recipe_digest(plugin, catalog)
    started = time.perf_counter()

    def progress(done: int, total: int) -> None:
        report(name, done, total)

    target = source_folder(plugin)
    if manifest.role == "base":
        recipe = base_recipe(manifest.recipe, where)
        loss = build_base(
            recipe,
            CorpusSpec.load(plugin.folder / "corpus.yaml"),
            [Environment.load(catalog.get("environment", e)) for e in recipe.environments],
            target,
            seed=manifest.seed,
            checkpoint=Checkpoint(Store(cache).path("checkpoints", identity, ".safetensors")),
            progress=progress,
            tokenizer_from=(
                source_folder(catalog.get("organism", recipe.tokenizer_of))
                if recipe.tokenizer_of
                else None
            ),
        )
    else:
        loss = build_organism(
            organism_recipe(manifest.recipe, where),
            materials_of(plugin, catalog),
            target,
            progress=progress,
        )
    seconds = time.perf_counter() - started
    _pin(plugin, identity, loss, seconds)
    return Built(name, True, loss, seconds)


def _pin(plugin: Organism, identity: str, loss: float, seconds: float) -> None:
    """Write the files' digests into the manifest and what they were made by beside it."""
    digests = {
        name: file_digest(path) for name, path in identity_files(source_folder(plugin)).items()
    }
    path = plugin.folder / "organism.yaml"
    block = yaml.safe_dump({"digests": digests}, sort_keys=True, default_flow_style=False)
    indented = "".join(f"  {line}\n" for line in block.splitlines())
    # Replaced as text, so that comments and the order of the manifest's fields stay.
    text, count = re.subn(
        r"^  digests:(?: \{\}\n|\n(?:    .*\n|  - .*\n)*)",
        lambda _: indented,
        path.read_text("utf-8"),
        count=1,
        flags=re.MULTILINE,
    )
    if count != 1:
        raise AfbenchError(
            "cannot find 'digests:' under 'source:'",
            where=str(path),
            fix="write it as '  digests: {}' on a line of its own",
        )
    write_json(
        plugin.folder / "build.json",
        {"recipe": identity, "loss": round(loss, 5), "seconds": round(seconds, 1)},
    )
    write_bytes(path, text.encode())


def _read_stamp(plugin: Organism) -> str | None:
    import json

    try:
        stamp = json.loads((plugin.folder / "build.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return stamp.get("recipe") if isinstance(stamp, dict) else None
