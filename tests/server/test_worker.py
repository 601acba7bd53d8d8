"""Workers: each submission is scored and released once, wherever a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from afbench.errors import AfbenchError
from afbench.leaderboard.board import replace_entry
from afbench.leaderboard.entry import Flag, flagged
from afbench.leaderboard.release import Ladders, ladder
from afbench.metrics.figures import Figure
from afbench.server.accounts import Accounts, Caller
from afbench.server.database import Database
from afbench.server.intake import Checked, Intake
from afbench.server.queue import Job
from afbench.server.schema import Submission
from afbench.server.scoring import RefusedError
from afbench.server.settings import Settings, WorkSettings
from afbench.submission.bundle import archive_digest
from tests.leaderboard.boards import TODAY
from tests.server.bundles import Made
from tests.server.fast import STEP, FastScorer, entries_on, fast_worker, truth
from tests.server.processes import until
from tests.server.seasons import OpenSeason
from tests.server.test_queue import expire, found
from tests.submission.small_run import NAME

STEPS = ["claimed", "measured", "released", "decided", "ladder-saved", "entry-written"]


@pytest.fixture
def scorer(season: OpenSeason) -> FastScorer:
    return FastScorer(season.board, season.signer)


class Sender:
    """Puts bundles into the queue, as the API does."""

    def __init__(self, database: Database, settings: Settings, made: Made) -> None:
        self._database, self._settings, self._made = database, settings, made
        self._intake = Intake(database, settings)

    def send(self, number: int, account: str = "ada") -> str:
        token = Accounts(self._database).create_token(account)[1]
        caller = Accounts(self._database).caller(f"Bearer {token}")
        return self.send_as(caller, number)

    def send_as(self, caller: Caller, number: int) -> str:
        bundle = self._made.bundle(number)
        digest = archive_digest(bundle)
        path = self._settings.incoming / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bundle.read_bytes())
        checked = Checked(NAME, digest, digest)
        status, new = self._intake.store(caller, digest, checked, path)
        assert new
        return status.id


@pytest.fixture
def sender(database: Database, settings: Settings, made: Made) -> Sender:
    return Sender(database, settings, made)


def killed(run: Callable[[], None]) -> None:
    """Run something in a child of this process that kills itself."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def killing(step: str) -> Callable[[str, Job | None], None]:
    def tell(now: str, job: Job | None) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def by_the_ladder(archives: list[str]) -> list[float | None]:
    """What one account is released, of its submissions in the order in which they are decided."""
    best, shown = None, []
    for archive in archives:
        done = ladder(Figure(value=truth(archive), n=1), best, STEP)
        best = done.best
        shown.append(done.figure.value)
    return shown


def of_account(database: Database) -> list[str]:
    """Archives in the order of decisions."""
    with database.read() as session:
        query = select(Submission.archive).order_by(Submission.decided, Submission.number)
        return list(session.scalars(query))


def everything_is_as_it_should(
    season: OpenSeason, database: Database, ids: list[str], account: str = "ada"
) -> None:
    """One sound entry for each submission, released by the Ladder once."""
    assert [found(database, number).state for number in ids] == ["done"] * len(ids)
    entries = {entry.record: entry for entry in entries_on(season.board)}
    archives = of_account(database)
    assert sorted(entries) == sorted(archives)
    shown = [entries[archive].figures.auroc.value for archive in archives]
    assert shown == by_the_ladder(archives)
    best = max(value for value in shown if value is not None)
    assert Ladders.load(season.sealed).best == {account: best}


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_is_killed_at_any_step_releases_once(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer,
    sender: Sender, url: str, step: str,
) -> None:  # fmt: skip
    ids = [sender.send(number) for number in range(3)]

    def die() -> None:
        own = Database(url)
        fast_worker(own, settings, scorer, season.sealed, tell=killing(step)).step()

    killed(die)
    expire(database)
    killed(die)  # and the next one as well: of the same submission, or of the next one
    expire(database)
    worker = fast_worker(database, settings, scorer, season.sealed)
    while worker.step():
        pass
    everything_is_as_it_should(season, database, ids)


@pytest.mark.parametrize("step", ["decided", "ladder-saved", "entry-written"])
def test_what_was_decided_is_published_though_nothing_else_waits(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer,
    sender: Sender, url: str, step: str,
) -> None:  # fmt: skip
    number = sender.send(1)

    def die() -> None:
        own = Database(url)
        fast_worker(own, settings, scorer, season.sealed, tell=killing(step)).step()

    killed(die)
    worker = fast_worker(database, settings, scorer, season.sealed)
    assert not worker.step()  # the lock is still the dead one's
    assert found(database, number).state == "publishing"
    expire(database)
    assert not worker.step()
    everything_is_as_it_should(season, database, [number])
    assert scorer.measured == []  # nothing was scored again


def test_a_replay_of_what_was_decided_and_not_published_yet_is_refused(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer,
    sender: Sender, url: str,
) -> None:  # fmt: skip
    scorer.record = f"sha256:{'7' * 64}"
    first, second = sender.send(1), sender.send(2, "grace")

    def die() -> None:
        own = Database(url)
        fast_worker(own, settings, scorer, season.sealed, tell=killing("decided")).step()

    killed(die)
    waiting = threading.Thread(target=fast_worker(database, settings, scorer, season.sealed).step)
    waiting.start()
    until(lambda: scorer.measured == [second], 60)
    assert found(database, first).state == "publishing"  # the lock is still the dead one's
    expire(database)
    waiting.join(60)
    assert found(database, first).state == "done"
    row = found(database, second)
    assert row.state == "refused" and "a replay" in (row.reason or "")
    assert len(entries_on(season.board)) == 1


def test_a_flag_that_was_set_meanwhile_is_left_alone(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer,
    sender: Sender, url: str,
) -> None:  # fmt: skip
    sender.send(1)

    def die() -> None:
        own = Database(url)
        fast_worker(own, settings, scorer, season.sealed, tell=killing("entry-written")).step()

    killed(die)
    [entry] = entries_on(season.board)
    path = season.board / "results" / entry.file
    mark = Flag(reason="found out", since=TODAY)
    replace_entry(season.board, path, lambda old: flagged(old, mark, season.signer))
    expire(database)
    fast_worker(database, settings, scorer, season.sealed).step()
    assert entries_on(season.board)[0].unreliable == mark


def test_workers_side_by_side_decide_one_after_the_other(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender
) -> None:
    season.change(quota=20)
    ids = [sender.send(number) for number in range(12)]
    scorer.seconds = 0.02
    workers = [fast_worker(database, settings, scorer, season.sealed) for _ in range(3)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 120
    while any(found(database, number).state != "done" for number in ids):
        assert time.monotonic() < end
        time.sleep(0.1)
    for worker in workers:
        worker.stopping.set()
    for thread in threads:
        thread.join()
    assert sorted(scorer.measured) == sorted(ids)
    everything_is_as_it_should(season, database, ids)


def test_accounts_have_ladders_of_their_own(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender
) -> None:
    for number, account in enumerate(["ada", "grace"]):
        sender.send(number, account)
    worker = fast_worker(database, settings, scorer, season.sealed)
    while worker.step():
        pass
    assert all(entry.figures.auroc.value is not None for entry in entries_on(season.board))
    assert set(Ladders.load(season.sealed).best) == {"ada", "grace"}


def test_ladder_json_keeps_what_others_wrote_there(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender
) -> None:
    Ladders(best={"ada": 0.995, "by-hand": 0.5}).save(season.sealed)
    sender.send(1)
    fast_worker(database, settings, scorer, season.sealed).step()
    assert Ladders.load(season.sealed).best == {"ada": 0.995, "by-hand": 0.5}


def test_work_that_is_stopped_goes_back_into_the_queue(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender
) -> None:
    number = sender.send(1)
    scorer.seconds = 60.0
    worker = fast_worker(database, settings, scorer, season.sealed)
    thread = threading.Thread(target=worker.run)
    thread.start()
    end = time.monotonic() + 60
    while not scorer.measured:
        assert time.monotonic() < end
        time.sleep(0.02)
    worker.stopping.set()
    thread.join(30)
    row = found(database, number)
    assert not thread.is_alive() and (row.state, row.attempts) == ("queued", 0)
    scorer.seconds = 0.0
    fast_worker(database, settings, scorer, season.sealed).step()
    everything_is_as_it_should(season, database, [number])


def test_a_worker_that_lost_its_lease_stops(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender
) -> None:
    number = sender.send(1)
    scorer.seconds = 60.0
    work = WorkSettings(lease=0.6, poll=0.05)
    slow = fast_worker(database, settings, scorer, season.sealed, work)
    thread = threading.Thread(target=slow.step)
    thread.start()
    end = time.monotonic() + 60
    while not scorer.measured:
        assert time.monotonic() < end
        time.sleep(0.02)
    expire(database)
    other = FastScorer(season.board, season.signer)
    while found(database, number).state != "done":
        fast_worker(database, settings, other, season.sealed).step()
        expire(database)
        assert time.monotonic() < end
    thread.join(30)
    assert not thread.is_alive()
    everything_is_as_it_should(season, database, [number])


def test_what_takes_too_long_is_refused(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender
) -> None:
    number = sender.send(1)
    scorer.seconds = 60.0
    fast_worker(database, settings, scorer, season.sealed, WorkSettings(limit=0.1)).step()
    row = found(database, number)
    assert row.state == "refused" and "longer than 0.1 s" in (row.reason or "")


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [(RefusedError("no score", "mend it"), "refused", "no score"),
     (AfbenchError("the disk is full: /secret/place"), "failed", "through no fault"),
     (ValueError("a bug"), "failed", "through no fault")],
    ids=["refused", "fault", "bug"],
)  # fmt: skip
def test_a_submission_that_cannot_be_scored_ends_with_a_reason(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer,
    sender: Sender, fault: Exception, state: str, reason: str,
) -> None:  # fmt: skip
    first, second = sender.send(1), sender.send(2)
    scorer.fault = fault
    worker = fast_worker(database, settings, scorer, season.sealed)
    while worker.step():
        expire(database)
        if found(database, first).state == state:
            scorer.fault = None
    row = found(database, first)
    assert row.state == state and reason in (row.reason or "") and row.fix
    assert "/secret" not in (row.reason or "")
    assert found(database, second).state == "done"  # the next is unharmed
    assert len(entries_on(season.board)) == 1


def test_the_same_run_on_the_leaderboard_is_a_replay(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender,
    made: Made,
) -> None:  # fmt: skip
    record = archive_digest(made.bundle(1))
    today = season.small.verified(record=record, made="2999-01-01")
    season.small.put(today)
    number = sender.send(1)
    fast_worker(database, settings, scorer, season.sealed).step()
    row = found(database, number)
    assert row.state == "refused" and "replay" in (row.reason or "")
    assert not (season.sealed / "ladder.json").exists()


def test_a_bundle_that_is_gone_is_no_fault_of_its_sender(
    database: Database, settings: Settings, season: OpenSeason, scorer: FastScorer, sender: Sender,
    made: Made,
) -> None:  # fmt: skip
    number = sender.send(1)
    path: Path = settings.bundle(archive_digest(made.bundle(1)))
    path.unlink()
    worker = fast_worker(database, settings, scorer, season.sealed)
    for _ in range(3):
        worker.step()
        expire(database)
    assert found(database, number).state == "failed"
