"""A scorer without models: the figure follows from the bundle, what is released from the Ladder."""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from afbench.leaderboard.board import KEYS, entries
from afbench.leaderboard.entry import Entry, signed
from afbench.leaderboard.keys import SigningKey, load_public_keys, load_signing_key
from afbench.leaderboard.release import feedback
from afbench.leaderboard.season import read_commitment
from afbench.server.database import Database
from afbench.server.deciding import Decisions
from afbench.server.queue import Job, Queue
from afbench.server.scoring import DiedError, Released
from afbench.server.settings import Settings, WorkSettings
from afbench.server.worker import Tell, Worker, told
from tests.leaderboard.boards import content, row

STEP = 0.02


def truth(archive: str) -> float:
    """The AUROC of a bundle."""
    return 0.5 + int(archive.removeprefix("sha256:")[:4], 16) % 50 / 100


def entry_of(
    board: Path, key: SigningKey, job: Job, best: float | None, record: str | None = None
) -> Released:
    """What the real scorer makes of its record."""
    season = next(iter((board / "seasons").iterdir())).name
    shown, after = feedback(row(job.detector, truth(job.archive)), best, STEP)
    fields = {
        "status": "verified",
        "half": "feedback",
        "commitment": read_commitment(board, season).root,
        "bundle": job.archive,
        "season": season,
        "record": record or job.archive,
        "figures": shown.model_dump(mode="json"),
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return Released(signed(content(job.detector, **fields), key), after)


@dataclass
class FastScorer:
    """Scores in no time.

    Attributes:
        seconds: that measuring takes.
        fault: raised by measuring.
        record: of every submission, as if all held the same detector; None for one of each.
        busy: how many releases are under way; never two.
    """

    board: Path
    key: SigningKey
    seconds: float = 0.0
    fault: Exception | None = None
    record: str | None = None
    measured: list[str] = field(default_factory=list)
    busy: int = 0

    @contextmanager
    def begin(self, bundle: Path, job: Job) -> Iterator[_Fast]:
        assert bundle.read_bytes()
        yield _Fast(self, job)


class _Fast:
    def __init__(self, scorer: FastScorer, job: Job) -> None:
        self._scorer, self._job = scorer, job
        self._stopped = threading.Event()

    def measure(self) -> None:
        self._scorer.measured.append(self._job.id)
        if self._scorer.fault is not None:
            raise self._scorer.fault
        if self._stopped.wait(self._scorer.seconds):
            raise DiedError("stopped")

    def release(self, best: float | None) -> Released:
        self._scorer.busy += 1
        assert self._scorer.busy == 1
        time.sleep(min(self._scorer.seconds, 0.01))
        scorer = self._scorer
        done = entry_of(scorer.board, scorer.key, self._job, best, scorer.record)
        self._scorer.busy -= 1
        return done

    def stop(self) -> None:
        self._stopped.set()


def fast_worker(
    database: Database,
    settings: Settings,
    scorer: FastScorer,
    sealed: Path,
    work: WorkSettings | None = None,
    tell: Tell = told,
) -> Worker:
    times = work or WorkSettings(poll=0.05)
    return Worker(
        Queue(database, settings.season, times), Decisions(database, settings.season, times),
        scorer, settings, times, sealed, f"test-{os.getpid()}-{id(scorer)}", tell,
    )  # fmt: skip


def scorer_of(board: Path, key: Path) -> FastScorer:
    """For a process of its own."""
    assert load_public_keys(board / KEYS)
    return FastScorer(board, load_signing_key(key))


def entries_on(board: Path) -> list[Entry]:
    return entries(board)
