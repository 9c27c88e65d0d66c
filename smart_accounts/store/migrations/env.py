"""Alembic's entry point. Runs the revisions on the connection that ``migrate`` passes."""

from alembic import context

from smart_accounts.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
