"""The queue: who works on which submission, for how long, and what came of it.

A claim is a lease that its worker extends. Each claim has a new fence, a number that every later
change must name: a worker that has lost its lease can change nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from afbench.server.database import Database
from afbench.server.schema import Account, State, Submission
from afbench.server.settings import WorkSettings

_BACK_OFF: Final = 5.0  # seconds after a first attempt that died; twice as long after each further


class LostError(Exception):
    """The lease or the lock is somebody else's by now; what was computed is of no use."""


@dataclass(frozen=True, slots=True)
class Job:
    """A submission that is worked on."""

    number: int
    id: str
    account_id: int
    account: str
    detector: str
    archive: str
    fence: int
    attempts: int


class Queue:
    """The submissions of one season.

    Args:
        settings: how long leases are, and how often a submission is tried.
    """

    def __init__(
        self, database: Database, season: str, settings: WorkSettings | None = None
    ) -> None:
        self._database, self._season = database, season
        self._settings = settings or WorkSettings()

    def claim(self, worker: str) -> Job | None:
        """The first submission that waits, now this worker's; None where there is none."""
        with self._database.write() as session:
            now = self._database.now(session)
            first = (
                select(Submission.number)
                .where(
                    Submission.season == self._season,
                    Submission.state == "queued",
                    Submission.not_before <= now,
                )
                .order_by(Submission.number)
                .limit(1)
                .with_for_update(skip_locked=True)  # SQLite has one writer anyway
            )
            claim = (
                update(Submission)
                .where(Submission.number == first.scalar_subquery(), Submission.state == "queued")
                .values(
                    state="running",
                    worker=worker,
                    lease=now + self._settings.lease,
                    fence=Submission.fence + 1,
                    attempts=Submission.attempts + 1,
                )
                .returning(Submission)
                .execution_options(synchronize_session=False)
            )
            row = session.scalars(claim).one_or_none()
            if row is None:
                return None
            account = session.get_one(Account, row.account_id).name
            return Job(
                row.number, row.id, row.account_id, account, row.detector, row.archive, row.fence,
                row.attempts,
            )  # fmt: skip

    def extend(self, job: Job) -> None:
        """Keep a lease for another while. Raises LostError where it is lost."""
        with self._database.write() as session:
            change(session, job, lease=self._database.now(session) + self._settings.lease)

    def put_back(self, job: Job) -> None:
        """Let somebody else go on, with no attempt counted. Raises LostError."""
        with self._database.write() as session:
            change(session, job, state="queued", worker=None, lease=None, attempts=job.attempts - 1)

    def died(self, job: Job, reason: str, fix: str | None = None) -> State:
        """An attempt ended in a fault that is not the submission's: try again, or give it up.

        Returns:
            The state that it has now.

        Raises:
            LostError: the lease is lost.
        """
        with self._database.write() as session:
            now = self._database.now(session)
            if job.attempts >= self._settings.attempts:
                change(
                    session, job, state="failed", worker=None, lease=None, decided=now,
                    reason=reason, fix=fix,
                )  # fmt: skip
                return "failed"
            wait = _BACK_OFF * 2.0 ** (job.attempts - 1)
            change(session, job, state="queued", worker=None, lease=None, not_before=now + wait)
            return "queued"

    def reap(self) -> list[tuple[str, State]]:
        """Take leases back that have expired: their workers are gone.

        Returns:
            The submissions that were put back (`queued`) or given up (`failed`).
        """
        with self._database.write() as session:
            now = self._database.now(session)
            query = (
                select(Submission)
                .where(
                    Submission.season == self._season,
                    Submission.state == "running",
                    Submission.lease < now,
                )
                .with_for_update(skip_locked=True)
            )
            found: list[tuple[str, State]] = []
            for row in session.scalars(query):
                row.worker = row.lease = None
                row.fence += 1  # even if it wakes up before the next claim
                if row.attempts >= self._settings.attempts:
                    row.state, row.decided = "failed", now
                    row.reason = f"it was tried {row.attempts} times, and each time the scorer died"
                    row.fix = "tell who runs the server"
                else:
                    row.state = "queued"
                found.append((row.id, row.state))
            return found

    def retry(self, number: str) -> bool:
        """Put a submission that was given up back into the queue; whether it was one."""
        again = (
            update(Submission)
            .where(Submission.id == number, Submission.state == "failed")
            .values(
                state="queued", attempts=0, not_before=0.0, reason=None, fix=None, decided=None
            )
            .execution_options(synchronize_session=False)
        )  # fmt: skip
        with self._database.write() as session:
            return bool(session.execute(again).rowcount)  # type: ignore[attr-defined]

    def refuse(self, job: Job, reason: str, fix: str | None) -> None:
        """The submission is at fault. Raises LostError."""
        with self._database.write() as session:
            change(
                session, job, state="refused", worker=None, lease=None, reason=reason, fix=fix,
                decided=self._database.now(session),
            )  # fmt: skip

    def counts(self) -> tuple[Mapping[str, int], float | None]:
        """How many submissions are in each state, and how long the first waits, in seconds."""
        with self._database.read() as session:
            now = self._database.now(session)
            of_season = Submission.season == self._season
            counted = select(Submission.state, func.count()).where(of_season)
            grouped = session.execute(counted.group_by(Submission.state))
            counts: dict[str, int] = {state: count for state, count in grouped}
            oldest = select(func.min(Submission.received)).where(
                of_season, Submission.state == "queued"
            )
            first: float | None = session.scalars(oldest).one()
            return counts, None if first is None else max(0.0, round(now - first, 3))


def change(session: Session, job: Job, **values: Any) -> None:
    """Change a submission that is still its worker's. Raises LostError where it is not."""
    changed = (
        update(Submission)
        .where(
            Submission.number == job.number,
            Submission.fence == job.fence,
            Submission.state == "running",
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if not session.execute(changed).rowcount:  # type: ignore[attr-defined]
        raise LostError("the lease")
