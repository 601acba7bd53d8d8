"""Tokens: kept as digests, shown once, and of no use once revoked."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from afbench.errors import ServerError
from afbench.server.accounts import Accounts
from afbench.server.database import Database
from afbench.server.problems import ProblemError


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database, rate=20.0, burst=3)


def spent(accounts: Accounts, token: str) -> int | None:
    """The status that a request ends in; None where it goes on."""
    try:
        accounts.caller(f"Bearer {token}")
    except ProblemError as error:
        return error.status
    return None


def test_a_token_is_its_accounts(accounts: Accounts) -> None:
    _, first = accounts.create_token("ada")
    _, second = accounts.create_token("ada")
    _, other = accounts.create_token("grace")
    callers = [accounts.caller(f"bearer {token}") for token in (first, second, other)]
    assert [one.name for one in callers] == ["ada", "ada", "grace"]
    assert callers[0].account == callers[1].account != callers[2].account
    assert len({first, second, other}) == 3 and all(len(one) > 43 for one in (first, second))


def test_nothing_in_the_database_is_a_token(accounts: Accounts, database: Database) -> None:
    _, token = accounts.create_token("ada")
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM tokens")).all()
    secret = token.rpartition("_")[2]
    assert token not in str(rows) and secret not in str(rows)
    [shown] = accounts.tokens()
    assert token.startswith(shown.prefix) and len(shown.prefix) == len("afb_") + 8


def test_a_revoked_token_is_of_no_use_and_others_are(accounts: Accounts) -> None:
    number, token = accounts.create_token("ada")
    _, other = accounts.create_token("ada")
    first = accounts.revoke(number).revoked
    assert spent(accounts, token) == 403 and spent(accounts, other) is None
    assert accounts.revoke(number).revoked == first is not None
    with pytest.raises(ServerError, match="no token 999"):
        accounts.revoke(999)


@pytest.mark.parametrize("name", ["", "Ada", "a b", "ä", "a" * 81, "a\n", "-a", "a/b"])
def test_an_account_has_a_plain_name(accounts: Accounts, name: str) -> None:
    with pytest.raises(ServerError, match="no name of an account"):
        accounts.create_token(name)


def test_requests_are_limited_and_come_back_with_time(accounts: Accounts) -> None:
    _, token = accounts.create_token("ada")
    found = [spent(accounts, token) for _ in range(30)]
    assert found[:3] == [None] * 3 and 429 in found
    end = time.monotonic() + 10
    while spent(accounts, token) is not None:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_limit_outlives_the_server(database: Database) -> None:
    _, token = Accounts(database, burst=2).create_token("ada")
    slow = [spent(Accounts(database, rate=0.001, burst=2), token) for _ in range(3)]
    assert slow == [None, None, 429]
