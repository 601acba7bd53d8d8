"""The tables. Times are seconds since 1970, in UTC.

A change here needs a migration in migrations/versions; a test compares the two.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

State = Literal["queued", "running", "publishing", "done", "refused", "failed"]
STATES: Final[tuple[State, ...]] = get_args(State)

_DIGEST: Final = String(71)  # sha256:<64 hex digits>


class Base(DeclarativeBase):
    """What the tables share: names of constraints that migrations can go by."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Account(Base):
    """Who submits. All tokens of an account share its quota and its Ladder."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    created: Mapped[float] = mapped_column(Double)


class Token(Base):
    """A token, of which only the digest is kept.

    `prefix` is its public part; `level` and `filled` are a token bucket (how many requests were
    left, and when that was so).
    """

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    prefix: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[float] = mapped_column(Double)
    revoked: Mapped[float | None] = mapped_column(Double)
    level: Mapped[float] = mapped_column(Double)
    filled: Mapped[float] = mapped_column(Double)


class Submission(Base):
    """A bundle that was taken, and its place in the queue.

    `number` is the order of arrival, `id` what its sender knows it by. `archive` is the digest of
    the bundle's bytes, `bundle` that of its content however it is packed, `record` that of the run
    in it. `fence` counts how often it was claimed: who holds an older number has lost it. `entry`
    is set with the state `publishing`, and never changed after.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        UniqueConstraint("season", "archive"),
        UniqueConstraint("season", "bundle"),
        UniqueConstraint("season", "record"),
        Index("ix_submissions_season_state_number", "season", "state", "number"),
        CheckConstraint(f"state IN ({', '.join(repr(one) for one in STATES)})", name="state"),
    )

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    season: Mapped[str] = mapped_column(String(80))
    detector: Mapped[str] = mapped_column(String(80))
    archive: Mapped[str] = mapped_column(_DIGEST)
    bundle: Mapped[str] = mapped_column(_DIGEST)
    record: Mapped[str] = mapped_column(_DIGEST)
    received: Mapped[float] = mapped_column(Double)

    state: Mapped[State] = mapped_column(String(16), default="queued")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str | None] = mapped_column(String(80))
    lease: Mapped[float | None] = mapped_column(Double)
    not_before: Mapped[float] = mapped_column(Double, default=0.0)

    decided: Mapped[float | None] = mapped_column(Double)
    reason: Mapped[str | None] = mapped_column(Text)
    fix: Mapped[str | None] = mapped_column(Text)
    entry: Mapped[str | None] = mapped_column(Text)


class Ladder(Base):
    """The best figure of a season's feedback half that was released to an account."""

    __tablename__ = "ladders"

    season: Mapped[str] = mapped_column(String(80), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    best: Mapped[float] = mapped_column(Double)


class Lock(Base):
    """A lock that expires; `fence` counts how often it was taken."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    fence: Mapped[int] = mapped_column(Integer)
    expires: Mapped[float] = mapped_column(Double)
