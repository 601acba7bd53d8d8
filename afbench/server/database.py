"""The database: SQLite or PostgreSQL, and its migrations."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from afbench.errors import ServerError

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_BUSY: Final = 30.0  # seconds that a writer of SQLite waits for another
_POOL: Final = 16
_WRITE: Final = "afbench_write"
# Any number, the same in every version: who migrates holds it.
_MIGRATING: Final = 0x6166_6265_6E63_68


class Database:
    """Transactions on one database; may be shared by threads, and not by processes.

    Args:
        url: as SQLAlchemy has it; sqlite and postgresql are known.

    Raises:
        ServerError: it is no such URL.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine_of(url)
        self._writing = self._engine.execution_options(**{_WRITE: True})
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        # SQLite has one writer; a queue of threads is fairer than its busy waiting.
        self._writer = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction, committed at the end and rolled back by an exception.

        On SQLite it excludes every other one; on PostgreSQL rows have to be locked.
        """
        with ExitStack() as stack:
            if self.is_sqlite:
                stack.enter_context(self._writer)
            session = stack.enter_context(Session(self._writing))
            stack.enter_context(session.begin())
            yield session

    def now(self, session: Session) -> float:
        """The time by the database's clock, which all workers share, in seconds since 1970."""
        if self.is_sqlite:
            return time.time()
        return float(session.scalars(select(func.extract("epoch", func.clock_timestamp()))).one())

    def check(self) -> None:
        """Raises SQLAlchemyError where the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def migrate(self) -> None:
        """Bring the tables up to date. Who comes second waits, and finds them so.

        Raises:
            ServerError: the database cannot be reached, or is of a newer version.
        """
        from alembic import command
        from alembic.util import CommandError

        try:
            with self._writing.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
                command.upgrade(migrations(connection), "head")
        except CommandError as error:
            raise ServerError(
                f"cannot migrate the database: {error}", fix="use a newer afbench"
            ) from None
        except SQLAlchemyError as error:
            raise unreachable(error) from None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def migrations(connection: Connection) -> Any:
    """Alembic's configuration, for a connection with an open transaction."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def unreachable(error: SQLAlchemyError) -> ServerError:
    """An error of the database as one line, without its URL, which may hold a password."""
    cause = getattr(error, "orig", None) or error
    line = " ".join(str(cause).split())[:300]
    return ServerError(f"cannot use the database: {line}", fix="check --database")


def _engine_of(url: str) -> Engine:
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        kind = parsed.get_backend_name()
        if kind == "sqlite":
            return _sqlite(parsed)
        if kind != "postgresql":
            raise ServerError(f"'{kind}' is no database that is known", fix="sqlite or postgresql")
        limits = "-c statement_timeout=60000 -c lock_timeout=30000"
        return create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=_POOL,
            max_overflow=0,
            connect_args={"connect_timeout": 5, "options": limits},
        )
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ServerError(
            "not the URL of a database",
            where="--database",
            fix="sqlite:////PATH or postgresql://USER@HOST/NAME",
        ) from None


def _sqlite(url: Any) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ServerError("SQLite needs a file here", where="--database")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        pool_size=_POOL,
        max_overflow=0,
        connect_args={"timeout": _BUSY, "isolation_level": None},
    )

    def connected(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        # A reader that turns writer can be told that it is too late; a writer says so first.
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine
