"""Takes bundles in, each once, and tells their senders what has become of them."""

from __future__ import annotations

import datetime
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from afbench.errors import AfbenchError, StorageError
from afbench.leaderboard.season import Season, read_season
from afbench.server.accounts import Caller
from afbench.server.database import Database
from afbench.server.problems import ProblemError
from afbench.server.schema import Account, Submission
from afbench.server.settings import Settings
from afbench.submission.bundle import open_bundle

_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a bundle is, after its check: its detector, and digests of the bundle and its run."""

    detector: str
    bundle: str
    record: str


@dataclass(frozen=True, slots=True)
class Status:
    """A submission as its sender sees it; `position` is its place in the queue, from 1."""

    id: str
    status: str
    detector: str
    season: str
    received: float
    position: int | None = None
    reason: str | None = None
    fix: str | None = None
    entry: dict[str, Any] | None = None


class Intake:
    """The submissions of one season.

    Args:
        settings: of the server.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def rules(self) -> Season:
        """The season's rules, as they are now. Raises AfbenchError where they are malformed."""
        return read_season(self._settings.board, self._settings.season)

    def admit(self, caller: Caller, archive: str) -> None:
        """Whether a bundle may be sent: what is refused anyway need not travel first.

        Raises:
            ProblemError: the season is not open (409), the quota is used up (429), or the bundle
                is another account's (409).
        """
        rules = self.rules()
        with self._database.read() as session:
            if self._found(session, caller, Submission.archive == archive) is None:
                _check_open(rules, _today())
                self._check_quota(session, caller, rules)

    def check(self, path: Path) -> Checked:
        """Check a bundle as far as that needs none of its code.

        Raises:
            ProblemError: it is refused (422).
            StorageError: it could not be unpacked for want of space.
        """
        rules = self.rules()
        try:
            with path.open("rb") as file:
                if file.read(2) != _GZIP:
                    raise ProblemError(422, "not a .tar.gz", fix="'afbench submit' writes one")
            with open_bundle(path, self._settings.limits) as bundle:
                version = bundle.record.inputs.versions.get("afbench", "none")
                if version != rules.afbench:
                    raise _other_season(rules, f"made by afbench {version}", rules.afbench)
                for name, wanted in rules.public.model_dump().items():
                    given = getattr(bundle.record.settings, name)
                    if given != wanted:
                        raise _other_season(rules, f"run with {name} {given}", wanted)
                return Checked(bundle.manifest.detector, bundle.digest, bundle.record.digest)
        except StorageError:
            raise
        except AfbenchError as error:
            raise ProblemError.of(422, error) from None

    def store(
        self, caller: Caller, archive: str, checked: Checked, path: Path
    ) -> tuple[Status, bool]:
        """Take a checked bundle into the queue; the same one again is the same submission.

        The file is moved while the transaction is open: a row has always its bundle.

        Args:
            path: the bundle, which is written out to the disk; on the file system of its new place.

        Returns:
            The submission, and whether it is new.

        Raises:
            ProblemError: as `admit`; also, the run in the bundle was submitted in another one.
            StorageError: it could not be moved.
        """
        try:
            return self._store(caller, archive, checked, path)
        except IntegrityError:  # somebody else's transaction with the same bundle came first
            return self._store(caller, archive, checked, path)

    def status(self, caller: Caller, number: str) -> Status:
        """A submission of the caller's.

        Raises:
            ProblemError: the caller has none of this number (404).
        """
        with self._database.read() as session:
            query = select(Submission).where(
                Submission.id == number, Submission.account_id == caller.account
            )
            row = session.scalars(query).one_or_none()
            if row is None:
                raise ProblemError(404, "you have no such submission", where="id")
            return _status(session, row)

    def listed(self, caller: Caller) -> list[Status]:
        """The caller's submissions in this season, the first one first."""
        with self._database.read() as session:
            query = (
                select(Submission)
                .where(
                    Submission.account_id == caller.account,
                    Submission.season == self._settings.season,
                )
                .order_by(Submission.number)
            )
            return [_status(session, row) for row in session.scalars(query)]

    def _store(
        self, caller: Caller, archive: str, checked: Checked, path: Path
    ) -> tuple[Status, bool]:
        rules = self.rules()
        with self._database.write() as session:
            # One upload of an account at a time, or two could both find the quota not used up.
            session.execute(
                select(Account.id).where(Account.id == caller.account).with_for_update()
            )
            same = or_(Submission.archive == archive, Submission.bundle == checked.bundle)
            found = self._found(session, caller, same)
            if found is not None:
                return _status(session, found), False
            other = self._found(session, caller, Submission.record == checked.record)
            if other is not None:
                raise ProblemError(
                    409, f"the run in it is that of submission {other.id}", where="record.json"
                )
            _check_open(rules, _today())
            self._check_quota(session, caller, rules)
            row = Submission(
                id=secrets.token_hex(8), account_id=caller.account, season=self._settings.season,
                detector=checked.detector, archive=archive, bundle=checked.bundle,
                record=checked.record, received=self._database.now(session),
            )  # fmt: skip
            session.add(row)
            session.flush()
            _move(path, self._settings.bundle(archive))
            return _status(session, row), True

    def _found(
        self, session: Session, caller: Caller, which: ColumnElement[bool]
    ) -> Submission | None:
        """The caller's submission of some bundle in this season.

        Raises:
            ProblemError: it is another account's.
        """
        query = select(Submission).where(Submission.season == self._settings.season, which)
        row = session.scalars(query.order_by(Submission.number)).first()
        if row is not None and row.account_id != caller.account:
            raise ProblemError(
                409, "a replay: it was submitted by another account", fix="submit your own detector"
            )
        return row

    def _check_quota(self, session: Session, caller: Caller, rules: Season) -> None:
        query = select(func.count()).where(
            Submission.account_id == caller.account, Submission.season == rules.season
        )
        if session.scalars(query).one() >= rules.quota:
            raise ProblemError(
                429,
                f"the quota of season '{rules.season}' is used up: {rules.quota} submissions of "
                "an account",
                where="token",
                fix="wait for the next season",
            )


def _status(session: Session, row: Submission) -> Status:
    position = None
    if row.state == "queued":
        before = select(func.count()).where(
            Submission.season == row.season,
            Submission.state == "queued",
            Submission.number <= row.number,
        )
        position = session.scalars(before).one()
    # What is decided and not on the leaderboard yet is nobody's to know.
    public = {"publishing": "running"}.get(row.state, row.state)
    return Status(
        row.id, public, row.detector, row.season, row.received, position, row.reason, row.fix,
        json.loads(row.entry) if row.entry and row.state == "done" else None,
    )  # fmt: skip


def _check_open(rules: Season, today: datetime.date) -> None:
    if not rules.opens <= today <= rules.closes:
        when = (
            f"opens on {rules.opens}" if today < rules.opens else f"was open until {rules.closes}"
        )
        raise ProblemError(409, f"season '{rules.season}' {when}", fix="submit while it is open")


def _other_season(rules: Season, is_: str, wanted: object) -> ProblemError:
    return ProblemError(
        422,
        f"{is_}; season '{rules.season}' asks for {wanted}",
        where="record.json",
        fix="run 'afbench submit' as the season says",
    )


def _move(path: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # its name as well
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror}", where=target.name) from None


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
