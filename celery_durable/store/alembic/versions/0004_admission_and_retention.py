"""Admission of limited orchestrations, and how long finished ones are kept."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.storage import FOR_QUEUES, set_storage
from celery_durable.store.types import BIG_KEY, LONG_TEXT, ExactText

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _index_without_nulls(name: str, table: str, column: str) -> None:
    clause = sa.text(f"{column} IS NOT NULL")
    op.create_index(name, table, [column], postgresql_where=clause, sqlite_where=clause)


def upgrade() -> None:
    op.add_column("durable_instances", sa.Column("policy", LONG_TEXT))
    op.add_column("durable_instances", sa.Column("purge_at", sa.BigInteger))
    _index_without_nulls("durable_instances_purge", "durable_instances", "purge_at")
    op.create_table(
        "durable_waiting",
        sa.Column("instance", ExactText(150), primary_key=True),
        sa.Column("execution", ExactText(32), primary_key=True),
        sa.Column("name", ExactText(200), nullable=False),
        sa.Column("lane", ExactText(40), nullable=False),
        sa.Column("precedence", sa.Integer, nullable=False),
        sa.Column("ready_at", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("limits", LONG_TEXT, nullable=False),
        sa.Column("debounce", ExactText(40)),
    )
    set_storage(op, "durable_waiting", FOR_QUEUES)
    op.create_index(
        "durable_waiting_lane",
        "durable_waiting",
        ["name", "lane", "precedence", "ready_at", "instance"],
    )
    op.create_index("durable_waiting_ready", "durable_waiting", ["ready_at"])
    op.create_index("durable_waiting_debounce", "durable_waiting", ["debounce"], unique=True)
    op.create_table(
        "durable_places",
        sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("name", ExactText(200), nullable=False),
        sa.Column("scope", ExactText(190), nullable=False),
        sa.Column("instance", ExactText(150), nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    set_storage(op, "durable_places", FOR_QUEUES)
    op.create_index("durable_places_scope", "durable_places", ["name", "scope", "expires_at"])
    op.create_index("durable_places_instance", "durable_places", ["instance"])
    _index_without_nulls("durable_places_expires", "durable_places", "expires_at")
    op.create_table(
        "durable_limits",
        sa.Column("name", ExactText(200), primary_key=True),
        sa.Column("looked_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("durable_limits", "durable_places", "durable_waiting"):
        op.drop_table(table)
    op.drop_index("durable_instances_purge", "durable_instances")
    with op.batch_alter_table("durable_instances") as table:
        table.drop_column("purge_at")
        table.drop_column("policy")
