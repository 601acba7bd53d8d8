"""The migrations make the tables that the code has, on both kinds of database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from afbench.errors import ServerError
from afbench.server.accounts import Accounts
from afbench.server.database import MIGRATIONS, Database, migrations
from afbench.server.schema import Base, State


def test_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.write() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        inspector = inspect(session.connection())
        [check] = inspector.get_check_constraints("submissions")
        from typing import get_args

        assert all(f"'{state}'" in check["sqltext"] for state in get_args(State))


def test_a_migration_goes_back_as_well(database: Database) -> None:
    from alembic import command

    with database.write() as session:
        command.downgrade(migrations(session.connection()), "base")
        left = inspect(session.connection()).get_table_names()
    assert left == ["alembic_version"]
    database.migrate()
    assert Accounts(database).tokens() == []


def test_there_is_one_line_of_migrations() -> None:
    assert len(ScriptDirectory(str(MIGRATIONS)).get_heads()) == 1


def test_to_migrate_again_changes_nothing(database: Database) -> None:
    Accounts(database).create_token("ada")
    database.migrate()
    assert len(Accounts(database).tokens()) == 1


def test_many_that_migrate_at_once_wait_for_one_another(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.migrate, databases))
    assert Accounts(databases[0]).tokens() == []
    for one in databases:
        one.close()


def test_a_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ServerError, match="cannot migrate"):
        database.migrate()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "mysql://x/y", "sqlite://", "oracle+nothing://x", "postgresql+none://x/y"],
)
def test_another_kind_of_database_is_one_line(url: str) -> None:
    with pytest.raises(ServerError) as error:
        Database(url)
    assert "\n" not in str(error.value)


def test_a_database_that_is_not_there_is_one_line_without_its_password() -> None:
    with pytest.raises(ServerError, match="cannot use the database") as error:
        Database("postgresql://tests:secret-word@127.0.0.1:9/x").migrate()
    assert "\n" not in str(error.value) and "secret-word" not in str(error.value)


def test_sqlite_keeps_what_it_was_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("x") / "deep" / "own.sqlite3"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with create_engine(f"sqlite:///{path}").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    with database.read() as session:
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert session.execute(text("PRAGMA synchronous")).scalar() == 2
    database.close()
