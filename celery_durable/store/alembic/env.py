"""How Alembic reaches the store; always called by ``celery_durable.store.migrate`` with a connection."""

from alembic import context

from celery_durable.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table="durable_alembic_version",
    render_as_batch=connection.dialect.name == "sqlite",
    include_name=lambda name, kind, parents: kind != "table" or name in metadata.tables,
)
with context.begin_transaction():
    context.run_migrations()
