"""The queue: each submission is one worker's at a time, and none is lost with its worker."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from afbench.server.accounts import Accounts
from afbench.server.database import Database
from afbench.server.deciding import Decisions, Held
from afbench.server.queue import Job, LostError, Queue
from afbench.server.schema import Account, Ladder, Lock, Submission
from afbench.server.settings import WorkSettings
from tests.leaderboard.boards import Small, small

SEASON = "spring"


@pytest.fixture
def queue(database: Database) -> Queue:
    Accounts(database).create_token("ada")
    return Queue(database, SEASON)


@pytest.fixture
def decisions(database: Database) -> Decisions:
    return Decisions(database, SEASON)


def arrived(database: Database, count: int, season: str = SEASON) -> list[str]:
    """Submissions of one account that wait."""
    with database.write() as session:
        account = session.scalars(select(Account.id)).first()
        rows = [
            Submission(
                id=secrets.token_hex(8), account_id=account, season=season, detector="probing",
                received=database.now(session),
                **{name: f"sha256:{secrets.token_hex(32)}"
                   for name in ("archive", "bundle", "record")},
            )
            for _ in range(count)
        ]  # fmt: skip
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows]


def found(database: Database, number: str) -> Submission:
    with database.read() as session:
        return session.scalars(select(Submission).where(Submission.id == number)).one()


def expire(database: Database) -> None:
    """As after a long time without a word of any worker."""
    with database.write() as session:
        session.execute(update(Submission).where(Submission.lease.is_not(None)).values(lease=1.0))
        session.execute(update(Submission).values(not_before=0.0))
        session.execute(update(Lock).values(expires=1.0))


def claimed(queue: Queue, worker: str = "one") -> Job:
    job = queue.claim(worker)
    assert job is not None
    return job


def test_submissions_are_taken_in_their_order(queue: Queue, database: Database) -> None:
    ids = arrived(database, 3)
    arrived(database, 1, "another-season")
    assert [claimed(queue).id for _ in range(3)] == ids
    assert queue.claim("one") is None


def test_workers_at_once_never_take_the_same(queue: Queue, database: Database) -> None:
    ids = arrived(database, 40)

    def all_of(worker: int) -> list[str]:
        jobs = iter(lambda: queue.claim(str(worker)), None)
        return [job.id for job in jobs]

    with ThreadPoolExecutor(8) as pool:
        taken = [number for of_one in pool.map(all_of, range(8)) for number in of_one]
    assert sorted(taken) == sorted(ids)


def test_a_claim_does_not_wait_for_another(database: Database, queue: Queue) -> None:
    """On PostgreSQL a claim that is not committed yet is passed over, not waited for."""
    if database.is_sqlite:
        arrived(database, 1)
        assert queue.claim("one") is not None
        return
    ids = arrived(database, 2)
    with database.write() as session:
        first = select(Submission).where(Submission.id == ids[0]).with_for_update()
        session.scalars(first).one()
        assert claimed(queue).id == ids[1]


def test_a_lease_that_is_extended_is_kept_and_an_expired_one_is_taken_back(
    queue: Queue, database: Database
) -> None:
    [number] = arrived(database, 1)
    job = claimed(queue)
    assert queue.reap() == []
    expire(database)
    queue.extend(job)
    assert queue.reap() == [] and queue.claim("two") is None
    expire(database)
    assert queue.reap() == [(number, "queued")]
    assert claimed(queue, "two").fence > job.fence


def test_who_lost_a_lease_can_change_nothing(
    queue: Queue, decisions: Decisions, database: Database, tmp_path: object
) -> None:
    [number] = arrived(database, 1)
    old = claimed(queue)
    expire(database)
    queue.reap()
    for act in (queue.extend, queue.put_back, lambda job: queue.refuse(job, "x", None),
                lambda job: queue.died(job, "x")):  # fmt: skip
        with pytest.raises(LostError):
            act(old)
    new = claimed(queue, "two")
    with pytest.raises(LostError):
        queue.extend(old)
    queue.extend(new)
    assert found(database, number).worker == "two"


def test_three_deaths_are_a_failure_with_a_reason(queue: Queue, database: Database) -> None:
    [number] = arrived(database, 1)
    for _ in range(3):
        assert claimed(queue).id == number
        expire(database)
        queue.reap()
    assert queue.claim("one") is None
    row = found(database, number)
    assert row.state == "failed" and "3 times" in (row.reason or "")
    assert queue.retry(number) and not queue.retry(number)
    assert claimed(queue).attempts == 1


def test_a_fault_of_the_scorer_is_tried_again_later(queue: Queue, database: Database) -> None:
    [number] = arrived(database, 1)
    for attempt in range(1, 4):
        job = claimed(queue)
        assert job.attempts == attempt
        assert queue.died(job, "no disk") == ("failed" if attempt == 3 else "queued")
        assert queue.claim("two") is None  # not at once
        expire(database)
    assert found(database, number).reason == "no disk"


def test_what_is_put_back_has_lost_no_attempt(queue: Queue, database: Database) -> None:
    arrived(database, 1)
    for _ in range(5):
        job = claimed(queue)
        assert job.attempts == 1
        queue.put_back(job)


def test_the_queue_is_counted(queue: Queue, database: Database) -> None:
    assert queue.counts() == ({}, None)
    arrived(database, 2)
    claimed(queue)
    counts, oldest = queue.counts()
    assert counts == {"queued": 1, "running": 1} and oldest is not None and oldest >= 0


# -- the lock, and decisions ----------------------------------------------------------------------


def test_a_lock_is_one_owners_until_it_expires(decisions: Decisions, database: Database) -> None:
    first = decisions.lock("x", "one")
    assert first is not None and decisions.lock("x", "two") is None
    assert decisions.lock("y", "two") is not None
    decisions.keep(first)
    expire(database)
    second = decisions.lock("x", "two")
    assert second is not None and second.fence > first.fence
    with pytest.raises(LostError):
        decisions.keep(first)
    decisions.unlock(first)  # not its own any more
    assert decisions.lock("x", "three") is None
    decisions.unlock(second)
    assert decisions.lock("x", "three") is not None


def test_a_lock_is_had_by_one_of_many(decisions: Decisions) -> None:
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: decisions.lock("x", str(n)), range(8)))
    assert len([lock for lock in got if lock is not None]) == 1


@pytest.fixture
def board(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(tmp_path_factory.mktemp("board"))


def test_a_decision_keeps_the_entry_and_the_ladder_at_once(
    queue: Queue, decisions: Decisions, database: Database, board: Small
) -> None:
    [number] = arrived(database, 1)
    job, lock = claimed(queue), decisions.lock("s", "one")
    assert lock is not None and decisions.best(job.account_id) is None
    entry = board.verified()
    decisions.decide(job, lock, entry, None, 0.7)
    assert decisions.best(job.account_id) == 0.7
    [pending] = decisions.pending()
    assert (pending.id, pending.account, pending.best) == (number, "ada", 0.7)
    assert pending.entry == entry
    with pytest.raises(LostError):  # once
        decisions.decide(job, lock, entry, 0.7, 0.9)
    decisions.published(pending)
    assert decisions.pending() == [] and found(database, number).state == "done"


@pytest.mark.parametrize("lost", ["lease", "lock", "expired-lock", "ladder"])
def test_a_decision_without_all_it_needs_changes_nothing(
    queue: Queue, decisions: Decisions, database: Database, board: Small, lost: str
) -> None:
    arrived(database, 1)
    job, lock = claimed(queue), decisions.lock("s", "one")
    assert lock is not None
    old: float | None = None
    if lost == "lease":
        expire(database)
        queue.reap()
        lock = decisions.lock("s", "one")
        assert lock is not None
    elif lost == "lock":
        decisions.unlock(lock)
        assert decisions.lock("s", "two") is not None
    elif lost == "expired-lock":
        with database.write() as session:
            session.execute(update(Lock).values(expires=1.0))
    else:
        old = 0.6
    with pytest.raises(LostError):
        decisions.decide(job, lock, board.verified(), old, 0.7)
    assert decisions.best(job.account_id) is None and decisions.pending() == []
    with database.read() as session:
        assert session.scalars(select(func.count()).select_from(Ladder)).one() == 0


def test_a_lock_that_was_never_taken_decides_nothing(
    queue: Queue, decisions: Decisions, database: Database, board: Small
) -> None:
    arrived(database, 1)
    with pytest.raises(LostError):
        decisions.decide(claimed(queue), Held("s", 0), board.verified(), None, 0.7)


def test_leases_are_as_long_as_asked(database: Database, queue: Queue) -> None:
    [number] = arrived(database, 1)
    claimed(Queue(database, SEASON, WorkSettings(lease=1000)))
    with database.read() as session:
        now = database.now(session)
    lease = found(database, number).lease
    assert lease is not None and 900 < lease - now <= 1000
