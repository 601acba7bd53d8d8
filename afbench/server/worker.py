"""A worker: takes submissions from the queue, has them scored, and publishes what is decided."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from afbench.errors import AfbenchError, ReplayError
from afbench.leaderboard.board import check_new
from afbench.server.database import unreachable
from afbench.server.deciding import Decisions, Held
from afbench.server.logs import log
from afbench.server.publishing import publish
from afbench.server.queue import Job, LostError, Queue
from afbench.server.scoring import DiedError, RefusedError, Scorer
from afbench.server.settings import Settings, WorkSettings

_FAULT: Final = "the scorer could not score it, through no fault of the submission that is known"
_FIX: Final = "tell who runs the server"
_LONGEST_PAUSE: Final = 30.0

Tell = Callable[[str, Job | None], None]


def told(step: str, job: Job | None) -> None:
    """Log a step of a worker."""
    if job is None:
        log(step)
    else:
        log(step, submission=job.id, account=job.account, detector=job.detector)


class Worker:
    """Works until it is told to stop.

    Args:
        queue, decisions: of one season.
        scorer: what scores.
        settings: of the server: where bundles and the leaderboard are.
        work: how long things may take.
        sealed: the folder of ladder.json.
        name: of this worker, for the log.
        tell: told of each step after it is done.
    """

    def __init__(
        self,
        queue: Queue,
        decisions: Decisions,
        scorer: Scorer,
        settings: Settings,
        work: WorkSettings,
        sealed: Path,
        name: str,
        tell: Tell = told,
    ) -> None:
        self._queue, self._decisions, self._scorer = queue, decisions, scorer
        self._settings, self._work, self._sealed = settings, work, sealed
        self._name, self._tell = name, tell
        self.stopping = threading.Event()

    def run(self) -> None:
        """Work until `stopping` is set; what is worked on then goes back into the queue."""
        pause = self._work.poll
        while not self.stopping.is_set():
            try:
                if self.step():
                    pause = self._work.poll
                    continue
            except SQLAlchemyError as error:
                log("database-gone", level=logging.ERROR, reason=str(unreachable(error)))
                pause = min(_LONGEST_PAUSE, 2 * pause)
            except AfbenchError as error:
                log("worker-fault", level=logging.ERROR, reason=str(error))
                pause = min(_LONGEST_PAUSE, 2 * pause)
            self.stopping.wait(pause)

    def step(self) -> bool:
        """Do what is to be done next; whether there was something.

        Raises:
            SQLAlchemyError: the database does not answer.
            AfbenchError: what is decided cannot be published.
        """
        for number, state in self._queue.reap():
            log("lease-expired", level=logging.WARNING, submission=number, state=state)
        if self._decisions.pending():
            self._publish()
        job = self._queue.claim(self._name)
        if job is None:
            return False
        self._tell("claimed", job)
        try:
            self._work_on(job)
        except LostError as error:
            log("lost", level=logging.WARNING, submission=job.id, reason=str(error))
        return True

    def _work_on(self, job: Job) -> None:
        """Bring a submission to its end, or back into the queue. Raises LostError."""
        watch = _Watch(self._queue, self._decisions, job, self._work, self.stopping)
        try:
            with watch:
                self._score(job, watch)
        except RefusedError as error:
            self._queue.refuse(job, error.reason, error.fix)
            self._tell("refused", job)
        except LostError:
            raise
        except Exception as error:
            if watch.stopped == "asked":
                self._queue.put_back(job)
                self._tell("put-back", job)
            elif watch.stopped == "late":
                self._queue.refuse(
                    job, f"it takes longer than {self._work.limit:g} s", "make it quicker"
                )
                self._tell("refused", job)
            elif watch.stopped == "lost":
                raise LostError("the lease") from None
            else:
                log(
                    "attempt-failed", level=logging.ERROR, submission=job.id, reason=str(error),
                    error=not isinstance(error, AfbenchError),
                )  # fmt: skip
                self._tell(self._queue.died(job, _FAULT, _FIX), job)

    def _score(self, job: Job, watch: _Watch) -> None:
        bundle = self._settings.bundle(job.archive)
        if not bundle.is_file():
            raise DiedError("its bundle is gone", where=str(bundle))
        with self._scorer.begin(bundle, job) as scoring:
            watch.guard(scoring.stop)
            scoring.measure()
            watch.guard(None)
            self._tell("measured", job)
            with self._lock(watch) as lock:
                # First what others decided: this one is checked against it.
                self._publish_pending()
                best = self._decisions.best(job.account_id)
                released = scoring.release(best)
                self._tell("released", job)
                try:
                    check_new(self._settings.board, released.entry)
                except ReplayError as error:
                    raise RefusedError(str(error), "submit another detector") from None
                watch.decided()
                self._decisions.decide(job, lock, released.entry, best, released.best)
                self._tell("decided", job)
                self._publish_pending(job)

    def _publish(self) -> None:
        """Publish what a worker decided that is gone, unless somebody else is at it."""
        lock = self._decisions.lock(self._lock_name, self._name)
        if lock is None:
            return
        try:
            self._publish_pending()
        finally:
            self._decisions.unlock(lock)

    def _publish_pending(self, job: Job | None = None) -> None:
        for one in self._decisions.pending():
            publish(one, self._settings.board, self._sealed, lambda step: self._tell(step, job))
            self._decisions.published(one)
            log("published", submission=one.id, account=one.account, entry=one.entry.digest)

    @contextmanager
    def _lock(self, watch: _Watch) -> Iterator[Held]:
        """The lock of the season's scorers, as soon as it is free."""
        while True:
            lock = self._decisions.lock(self._lock_name, self._name)
            if lock is not None:
                break
            watch.check()
            time.sleep(min(0.2, self._work.poll))
        watch.lock = lock
        try:
            yield lock
        finally:
            watch.lock = None
            self._decisions.unlock(lock)

    @property
    def _lock_name(self) -> str:
        return f"scorer:{self._settings.season}"


class _Watch:
    """Extends the lease of a submission while it is worked on, and the lock while it is held.

    What is being measured is stopped when the lease is lost, when it takes too long, and when the
    worker is to stop: `stopped` says which ("lost", "late", "asked").

    Args:
        stopping: set when the worker is to stop.
    """

    def __init__(
        self,
        queue: Queue,
        decisions: Decisions,
        job: Job,
        work: WorkSettings,
        stopping: threading.Event,
    ) -> None:
        self._queue, self._decisions, self._work = queue, decisions, work
        self._job: Job | None = job
        self._stopping, self._end = stopping, threading.Event()
        self._stop: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._deadline = time.monotonic() + work.limit
        self.lock: Held | None = None
        self.stopped: str | None = None

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join()

    def guard(self, stop: Callable[[], None] | None) -> None:
        """Name what stops the measuring that begins now; None when it is over."""
        self._stop = stop

    def decided(self) -> None:
        """The lease is given up for a decision: there is nothing to extend any more."""
        self._job = None

    def check(self) -> None:
        """Raises DiedError where the work is to stop."""
        if self.stopped is None and self._stopping.is_set():
            self.stopped = "asked"
        if self.stopped is not None:
            raise DiedError(f"stopped: {self.stopped}")

    def _watch(self) -> None:
        # Leases are extended while two thirds of them are left.
        every = self._work.lease / 3
        due = time.monotonic() + every
        while not self._end.wait(min(0.2, every)):
            now = time.monotonic()
            if now >= due:
                due = now + every
                if not self._extended():
                    self._stop_it("lost")
            if self._stopping.is_set():
                self._stop_it("asked")
            if now > self._deadline:
                self._stop_it("late")

    def _stop_it(self, why: str) -> None:
        stop = self._stop
        if stop is not None and self.stopped is None:
            self.stopped = why
            stop()

    def _extended(self) -> bool:
        try:
            if self._job is not None:
                self._queue.extend(self._job)
            if self.lock is not None:
                self._decisions.keep(self.lock)
        except LostError:
            return self._job is None  # decided meanwhile
        except SQLAlchemyError as error:  # it may come back before the lease expires
            log("database-gone", level=logging.WARNING, reason=str(unreachable(error)))
        return True
