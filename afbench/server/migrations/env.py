"""What alembic runs: the migrations, in the transaction that it is handed."""

from alembic import context

from afbench.server.schema import Base

# `render_as_batch`: SQLite alters a table by making it anew.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
