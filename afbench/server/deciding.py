"""Decides on entries, one at a time: what is released is released once, whoever dies when.

Deciding is one transaction, in which the entry is kept and its account's Ladder goes on. It asks
for the submission's lease, for the lock of the season's scorers, and that the Ladder is still the
one that the entry was made by. What is decided is put on the leaderboard after that, by whoever has
the lock, as often as it takes: that is the same each time.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from afbench.leaderboard.entry import Entry
from afbench.server.database import Database
from afbench.server.queue import Job, LostError, change
from afbench.server.schema import Account, Ladder, Lock, Submission
from afbench.server.settings import WorkSettings


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that is held."""

    name: str
    fence: int


@dataclass(frozen=True, slots=True)
class Decided:
    """An entry that is decided on, and may not be on the leaderboard yet.

    `best` is the best figure released to its account by now.
    """

    number: int
    id: str
    account: str
    entry: Entry
    best: float | None


class Decisions:
    """The decisions of one season, and the lock that only one scorer has.

    Args:
        settings: how long the lock is held without a word.
    """

    def __init__(
        self, database: Database, season: str, settings: WorkSettings | None = None
    ) -> None:
        self._database, self._season = database, season
        self._settings = settings or WorkSettings()

    def best(self, account: int) -> float | None:
        """The best figure that was released to an account in this season."""
        with self._database.read() as session:
            row = session.get(Ladder, (self._season, account))
            return None if row is None else row.best

    def decide(
        self, job: Job, lock: Held, entry: Entry, old: float | None, new: float | None
    ) -> None:
        """Decide on an entry: from here on it is that one, whoever publishes it.

        In one transaction: the submission is this worker's, the lock is this worker's, and the
        account's best is the one that the entry was made by; then all three change.

        Args:
            old: the account's best figure that the entry was made by.
            new: the one after it.

        Raises:
            LostError: one of these is not so; nothing was changed.
        """
        with self._database.write() as session:
            now = self._database.now(session)
            held = session.get(Lock, lock.name, with_for_update=True)
            if held is None or held.fence != lock.fence or held.expires < now:
                raise LostError("the lock")
            change(
                session, job, state="publishing", worker=None, lease=None, decided=now,
                entry=json.dumps(entry.content(), ensure_ascii=False, allow_nan=False),
            )  # fmt: skip
            row = session.get(Ladder, (self._season, job.account_id), with_for_update=True)
            if (None if row is None else row.best) != old:
                raise LostError("the ladder")
            if row is not None and new is not None:
                row.best = new
            elif new is not None:
                session.add(Ladder(season=self._season, account_id=job.account_id, best=new))

    def pending(self) -> list[Decided]:
        """What is decided and not known to be on the leaderboard, in the order of decisions."""
        with self._database.read() as session:
            query = (
                select(Submission, Account.name, Ladder.best)
                .join(Account, Submission.account_id == Account.id)
                .outerjoin(
                    Ladder,
                    (Ladder.account_id == Account.id) & (Ladder.season == Submission.season),
                )
                .where(Submission.season == self._season, Submission.state == "publishing")
                .order_by(Submission.decided, Submission.number)
            )
            return [
                Decided(
                    row.number, row.id, name, Entry.model_validate_json(row.entry or ""), best
                )
                for row, name, best in session.execute(query)
            ]  # fmt: skip

    def published(self, decided: Decided) -> None:
        """It is on the leaderboard. To say so twice changes nothing."""
        done = (
            update(Submission)
            .where(Submission.number == decided.number, Submission.state == "publishing")
            .values(state="done")
            .execution_options(synchronize_session=False)
        )
        with self._database.write() as session:
            session.execute(done)

    def lock(self, name: str, owner: str) -> Held | None:
        """Take a lock for as long as a lease; None where somebody has it."""
        with self._database.write() as session:
            now = self._database.now(session)
            if session.get(Lock, name) is None:
                try:
                    with session.begin_nested():
                        session.add(Lock(name=name, owner="", fence=0, expires=0.0))
                except IntegrityError:  # somebody else made it meanwhile
                    pass
            take = (
                update(Lock)
                .where(Lock.name == name, Lock.expires < now)
                .values(owner=owner, fence=Lock.fence + 1, expires=now + self._settings.lease)
                .returning(Lock.fence)
                .execution_options(synchronize_session=False)
            )
            fence = session.scalars(take).one_or_none()
            return None if fence is None else Held(name, fence)

    def keep(self, lock: Held) -> None:
        """Keep a lock for another while. Raises LostError where it is lost."""
        with self._database.write() as session:
            expires = self._database.now(session) + self._settings.lease
            self._change_lock(session, lock, expires)

    def unlock(self, lock: Held) -> None:
        """Give a lock back; one that is lost is left alone."""
        with self._database.write() as session, suppress(LostError):
            self._change_lock(session, lock, 0.0)

    def _change_lock(self, session: Session, lock: Held, expires: float) -> None:
        change = (
            update(Lock)
            .where(Lock.name == lock.name, Lock.fence == lock.fence)
            .values(expires=expires)
            .execution_options(synchronize_session=False)
        )
        if not session.execute(change).rowcount:  # type: ignore[attr-defined]
            raise LostError("the lock")
