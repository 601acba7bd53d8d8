"""Accounts and their tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import case, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from afbench.catalog.fields import NAME_PATTERN
from afbench.errors import ServerError
from afbench.server.database import Database
from afbench.server.problems import ProblemError
from afbench.server.schema import Account, Token

_MARK: Final = "afb"
_MAX_NAME: Final = 80
_MAX_TOKEN: Final = 200
_FIX: Final = "set AFBENCH_TOKEN to the one that you were given"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an account, by one of its tokens."""

    account: int
    name: str
    token: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A token as it may be shown: `prefix` is how it begins."""

    id: int
    account: str
    prefix: str
    created: float
    revoked: float | None


class Accounts:
    """The accounts of a server.

    Args:
        rate, burst: requests per second of one token, and how many may come at once.
    """

    def __init__(self, database: Database, rate: float = 2.0, burst: int = 60) -> None:
        self._database, self._rate, self._burst = database, rate, burst

    def create_token(self, account: str) -> tuple[int, str]:
        """A new token, which is nowhere to be read again; the account is made where there is none.

        Returns:
            Its number and the token: 256 random bits behind a public prefix.

        Raises:
            ServerError: it is no name of an account.
        """
        if not re.fullmatch(NAME_PATTERN, account) or len(account) > _MAX_NAME:
            raise ServerError(
                f"'{account[:40]}' is no name of an account", fix="use a-z, 0-9 and dashes"
            )
        prefix = f"{_MARK}_{secrets.token_hex(4)}"
        token = f"{prefix}_{secrets.token_urlsafe(32)}"
        with self._database.write() as session:
            now = self._database.now(session)
            row = Token(
                account_id=_account(session, account, now).id, prefix=prefix, digest=_digest(token),
                created=now, level=float(self._burst), filled=now,
            )  # fmt: skip
            session.add(row)
            session.flush()
            return row.id, token

    def tokens(self) -> list[Shown]:
        """Every token, in the order in which they were made."""
        with self._database.read() as session:
            query = select(Token, Account.name).join(Account).order_by(Token.id)
            return [
                Shown(row.id, name, row.prefix, row.created, row.revoked)
                for row, name in session.execute(query)
            ]

    def revoke(self, number: int) -> Shown:
        """Have a token be of no use from now on. To do so twice changes nothing.

        Raises:
            ServerError: there is no such token.
        """
        with self._database.write() as session:
            query = select(Token, Account.name).join(Account).where(Token.id == number)
            found = session.execute(query).one_or_none()
            if found is None:
                raise ServerError(
                    f"there is no token {number}", fix="'afbench leaderboard token list' shows all"
                )
            row, name = found
            if row.revoked is None:
                row.revoked = self._database.now(session)
            return Shown(row.id, name, row.prefix, row.created, row.revoked)

    def caller(self, authorization: str | None) -> Caller:
        """Who sends a request, by its header `Authorization`; one request of the token is spent.

        The token is looked up by its digest: the time that takes tells nothing of other tokens.

        Raises:
            ProblemError: no token or an unknown one (401), a revoked one (403), too many requests
                (429).
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unknown("there is no token in the request")
        if len(token) > _MAX_TOKEN:
            raise _unknown("the token is not known")
        with self._database.read() as session:
            query = select(Token.id, Token.revoked, Token.account_id, Account.name).join(Account)
            row = session.execute(query.where(Token.digest == _digest(token))).one_or_none()
        if row is None:
            raise _unknown("the token is not known")
        if row.revoked is not None:
            raise ProblemError(
                403, "the token was revoked", where="token", fix="ask who runs the server for one"
            )
        self._spend(row.id)
        return Caller(row.account_id, row.name, row.id)

    def _spend(self, token: int) -> None:
        """Take one request out of a token's bucket, which fills up again."""
        now = time.time()
        passed = case((Token.filled < now, now - Token.filled), else_=0.0)
        level = Token.level + passed * self._rate
        level = case((level > self._burst, float(self._burst)), else_=level)
        spend = (
            update(Token)
            .where(Token.id == token, level >= 1.0)
            .values(level=level - 1.0, filled=now)
            .execution_options(synchronize_session=False)
        )
        with self._database.write() as session:
            if session.execute(spend).rowcount:  # type: ignore[attr-defined]
                return
        wait = max(1, round(1.0 / self._rate + 0.5))
        raise ProblemError(
            429,
            "too many requests with this token",
            where="token",
            fix=f"wait {wait} s",
            headers={"Retry-After": str(wait)},
        )


def _account(session: Session, name: str, now: float) -> Account:
    query = select(Account).where(Account.name == name)
    found = session.scalars(query).one_or_none()
    if found is not None:
        return found
    try:
        with session.begin_nested():
            made = Account(name=name, created=now)
            session.add(made)
        return made
    except IntegrityError:  # somebody else made it meanwhile
        return session.scalars(query).one()


def _unknown(what: str) -> ProblemError:
    headers = {"WWW-Authenticate": "Bearer"}
    return ProblemError(401, what, where="token", fix=_FIX, headers=headers)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
