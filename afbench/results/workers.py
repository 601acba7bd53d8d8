"""Processes that score folds side by side, each with models of its own and one cache on disk.

What a fold's scores follow from does not depend on the process; entries of the cache are written
whole or not at all. Two processes may compute the same entry, which costs time and changes nothing.
"""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from afbench.errors import AfbenchError
from afbench.results.case_source import CaseSource, Twins
from afbench.results.fold_runner import FoldRunner, Said
from afbench.results.reader import Reader
from afbench.results.score_cache import ScoreCache
from afbench.store import Store

if TYPE_CHECKING:
    from afbench.cases.access import OrganismAccess
    from afbench.cases.splits import Fold
    from afbench.catalog.discovery import Catalog
    from afbench.models.placement import Placement
    from afbench.results.inputs import Plan
    from afbench.sandbox.choose import Isolation
    from afbench.sandbox.host import DetectorFactory


@dataclass(frozen=True, slots=True)
class Task:
    """One detector on one fold, and on those that the same fit serves.

    Attributes:
        detector: its name.
        numbers: of the folds.
        folds: the one with the fit first.
        headline: how many of them, from the first, are of the headline.
    """

    detector: str
    numbers: tuple[int, ...]
    folds: tuple[Fold, ...]
    headline: int


@dataclass(slots=True)
class WorkerUse:
    """What the workers' caches answered and their models read, in all."""

    hits: int = 0
    misses: int = 0
    forward_tokens: int = 0
    calls: int = 0
    generated_tokens: int = 0

    def add(self, other: WorkerUse) -> None:
        """Add another's."""
        self.hits += other.hits
        self.misses += other.misses
        self.forward_tokens += other.forward_tokens
        self.calls += other.calls
        self.generated_tokens += other.generated_tokens

    def since(self, before: WorkerUse) -> WorkerUse:
        """What came after an earlier look."""
        return WorkerUse(
            *(getattr(self, one.name) - getattr(before, one.name) for one in fields(self))
        )

    @classmethod
    def of(cls, store: Store, access: OrganismAccess) -> WorkerUse:
        """Of this process until now."""
        done = access.computed
        return cls(store.hits, store.misses, done.forward_tokens, done.calls, done.generated_tokens)


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs of a run; the same for all of its tasks."""

    plan: Plan
    twins: Twins
    catalog: Catalog
    cache: Path
    placement: Placement | None
    isolation: Isolation | None


class Workers:
    """A pool of processes, for one or more runs over one catalog and cache.

    Args:
        jobs: how many processes.
        catalog: holds the user's model, if there is one.
        cache: the folder of the cache.
        placement: where models run; None is the usual.
        isolation: how detectors are isolated; None runs them in the processes themselves.

    Attributes:
        use: grows with every task.
    """

    def __init__(
        self,
        jobs: int,
        catalog: Catalog,
        cache: Path,
        placement: Placement | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        self.use = WorkerUse()
        self._placement, self._isolation = placement, isolation
        self._jobs, self._catalog, self._cache = jobs, catalog, cache
        self._pool: ProcessPoolExecutor | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def __enter__(self) -> Workers:
        import torch

        threads = max(1, torch.get_num_threads() // self._jobs)
        self._folder = tempfile.TemporaryDirectory(prefix="afbench-")
        self._pool = ProcessPoolExecutor(
            self._jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(threads,),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._pool is not None and self._folder is not None
        self._pool.shutdown(wait=error is None, cancel_futures=True)
        self._folder.cleanup()

    def run(
        self, tasks: Iterable[Task], source: CaseSource, wanted: Callable[[Task], bool]
    ) -> Iterator[tuple[Task, Said]]:
        """What comes of each task, as it comes.

        Args:
            wanted: asked before a task is begun; one that is not wanted any more is left out.

        Raises:
            AfbenchError: the host failed in a worker; what was finished before is in the cache.
        """
        assert self._pool is not None
        path = self._described(source)
        ahead = (task for task in tasks if wanted(task))
        waiting: dict[Future[tuple[Said, WorkerUse]], Task] = {}
        while True:
            # A few more than there are processes, so that none waits for the next.
            for task in itertools.islice(ahead, 2 * self._jobs - len(waiting)):
                waiting[self._pool.submit(_work, path, task)] = task
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                said, use = future.result()
                self.use.add(use)
                yield waiting.pop(future), said

    def _described(self, source: CaseSource) -> Path:
        """A file from which a worker knows the run."""
        assert self._folder is not None
        self._count += 1
        path = Path(self._folder.name) / f"{self._count}.pickle"
        job = _Job(
            source.plan, source.twins, self._catalog, self._cache, self._placement, self._isolation
        )
        # Written here and read by this program's own processes alone.
        path.write_bytes(pickle.dumps(job))
        return path


@dataclass(slots=True)
class _Worker:
    """What a worker process holds from task to task: of a run, and of all runs of its pool."""

    path: Path | None = None
    plan: Plan | None = None
    runner: FoldRunner | None = None
    store: Store | None = None
    access: OrganismAccess | None = None
    factory: DetectorFactory | None = None


_worker = _Worker()


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _work(path: Path, task: Task) -> tuple[Said, WorkerUse]:
    plan, runner, store, access = _prepared(path)
    before = WorkerUse.of(store, access)
    plugin = next(plugin for plugin in plan.detectors if plugin.name == task.detector)
    try:
        said = runner.run(plugin, task.folds, task.headline)
    except AfbenchError as error:  # some kinds of it cannot travel between processes
        raise AfbenchError(error.what, where=error.where, fix=error.fix) from None
    return said, WorkerUse.of(store, access).since(before)


def _prepared(path: Path) -> tuple[Plan, FoldRunner, Store, OrganismAccess]:
    """The run that a file describes, with the models that runs before it loaded."""
    from afbench.cases.access import OrganismAccess
    from afbench.models.loading import ModelStore
    from afbench.sandbox.host import factory_of

    if path != _worker.path:
        job: _Job = pickle.loads(path.read_bytes())
        if _worker.store is None or _worker.access is None:
            place = job.placement
            models = ModelStore(
                job.catalog,
                default_parent=job.plan.default_parent,
                device=place.device if place else None,
                dtype=place.dtype if place else None,
            )
            _worker.store = Store(job.cache)
            _worker.access = OrganismAccess(models, job.catalog, _worker.store)
            _worker.factory = factory_of(job.isolation, job.catalog, job.cache)
        source = CaseSource(job.plan, _worker.access, job.twins)
        reads = job.plan.settings.behaviour_reading
        assert _worker.factory is not None
        _worker.runner = FoldRunner(
            source,
            ScoreCache(_worker.store, source),
            Reader(source, _worker.store) if reads else None,
            _worker.factory,
        )
        _worker.plan, _worker.path = job.plan, path
    assert _worker.plan and _worker.runner and _worker.store and _worker.access
    return _worker.plan, _worker.runner, _worker.store, _worker.access
