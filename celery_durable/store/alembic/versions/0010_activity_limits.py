"""Limits of activities: attempts that wait for slots, and slots that are taken."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.storage import FOR_QUEUES, set_storage
from celery_durable.store.types import BIG_KEY, LONG_TEXT, ExactText

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
_TABLES = ("durable_activity_waiting", "durable_activity_places")


def _where(column: str) -> dict[str, object]:
    clause = sa.text(f"{column} IS NOT NULL")
    return {"postgresql_where": clause, "sqlite_where": clause}


def _attempt() -> list[sa.Column[object]]:
    return [
        sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("execution", ExactText(32), nullable=False),
        sa.Column("command", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "durable_activity_waiting",
        *_attempt(),
        sa.Column("task", ExactText(200), nullable=False),
        sa.Column("queue", ExactText(200)),
        sa.Column("lane", ExactText(40), nullable=False),
        sa.Column("precedence", sa.Integer, nullable=False),
        sa.Column("ready_at", sa.BigInteger),
        sa.Column("limits", LONG_TEXT, nullable=False),
    )
    waiting = "durable_activity_waiting"
    op.create_index(f"{waiting}_attempt", waiting, ["execution", "command", "attempt"])
    op.create_index(
        f"{waiting}_lane", waiting, ["lane", "precedence", "ready_at", "id"], **_where("ready_at")
    )
    op.create_index(f"{waiting}_ready", waiting, ["ready_at"], **_where("ready_at"))
    op.create_table(
        "durable_activity_places",
        *_attempt(),
        sa.Column("scope", ExactText(190), nullable=False),
        sa.Column("permit", LONG_TEXT, nullable=False),
        sa.Column("most", sa.Integer),
        sa.Column("expires_at", sa.BigInteger),
    )
    places = "durable_activity_places"
    op.create_index(f"{places}_expires", places, ["expires_at"], **_where("expires_at"))
    for table in _TABLES:
        set_storage(op, table, FOR_QUEUES)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
