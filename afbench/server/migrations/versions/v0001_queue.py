"""Accounts, tokens, the queue, ladders and locks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATES = ("queued", "running", "publishing", "done", "refused", "failed")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.Column("level", sa.Double(), nullable=False),
        sa.Column("filled", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_tokens_account_id"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
    )
    op.create_index("ix_tokens_account_id", "tokens", ["account_id"])
    op.create_table(
        "submissions",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("season", sa.String(80), nullable=False),
        sa.Column("detector", sa.String(80), nullable=False),
        sa.Column("archive", sa.String(71), nullable=False),
        sa.Column("bundle", sa.String(71), nullable=False),
        sa.Column("record", sa.String(71), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(80), nullable=True),
        sa.Column("lease", sa.Double(), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("decided", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("fix", sa.Text(), nullable=True),
        sa.Column("entry", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_submissions"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_submissions_account_id"),
        sa.UniqueConstraint("id", name="uq_submissions_id"),
        sa.UniqueConstraint("season", "archive", name="uq_submissions_season_archive"),
        sa.UniqueConstraint("season", "bundle", name="uq_submissions_season_bundle"),
        sa.UniqueConstraint("season", "record", name="uq_submissions_season_record"),
        sa.CheckConstraint(
            f"state IN ({', '.join(repr(one) for one in _STATES)})", name="ck_submissions_state"
        ),
    )
    op.create_index("ix_submissions_account_id", "submissions", ["account_id"])
    op.create_index(
        "ix_submissions_season_state_number", "submissions", ["season", "state", "number"]
    )
    op.create_table(
        "ladders",
        sa.Column("season", sa.String(80), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("best", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("season", "account_id", name="pk_ladders"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_ladders_account_id"),
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_locks"),
    )


def downgrade() -> None:
    """Take the tables away, with what is in them."""
    for name in ("locks", "ladders", "submissions", "tokens", "accounts"):
        op.drop_table(name)
