"""How Alembic reaches the store.

Always called by ``celery_durable.store.migrate``, with a connection or to write SQL.
"""

from typing import Any

from alembic import context

from celery_durable.store.schema import metadata

attributes: Any = context.config.attributes
connection: Any = attributes["connection"]
dialect: str = attributes["dialect"] if connection is None else connection.dialect.name
context.configure(
    connection=connection,
    dialect_name=dialect,
    target_metadata=metadata,
    version_table="durable_alembic_version",
    render_as_batch=dialect == "sqlite",
    include_name=lambda name, kind, parents: kind != "table" or name in metadata.tables,
)
with context.begin_transaction():
    context.run_migrations()
