"""The first tables."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.storage import FOR_QUEUES, FOR_UPDATES, set_storage
from celery_durable.store.types import BIG_KEY, LONG_TEXT, PAYLOAD, ExactText

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _index(
    name: str, table: str, columns: list[str], *, where: str | None = None, unique: bool = False
) -> None:
    clause = None if where is None else sa.text(f"{where} IS NOT NULL")
    op.create_index(
        name, table, columns, unique=unique, postgresql_where=clause, sqlite_where=clause
    )


def upgrade() -> None:
    op.create_table(
        "durable_meta",
        sa.Column("name", ExactText(50), primary_key=True),
        sa.Column("value", ExactText(200)),
    )
    op.create_table(
        "durable_instances",
        sa.Column("id", ExactText(150), primary_key=True),
        sa.Column("execution", ExactText(32), nullable=False),
        sa.Column("name", ExactText(200), nullable=False),
        sa.Column("version", ExactText(50)),
        sa.Column("status", ExactText(12), nullable=False),
        sa.Column("reason", LONG_TEXT),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("input", PAYLOAD),
        sa.Column("output", PAYLOAD),
        sa.Column("failure", PAYLOAD),
        sa.Column("custom_status", PAYLOAD),
        sa.Column("parent_id", ExactText(150)),
        sa.Column("parent_execution", ExactText(32)),
        sa.Column("parent_command", sa.Integer),
        sa.Column("parent_attempt", sa.Integer),
        sa.Column("root_id", ExactText(200)),
        sa.Column("tags", LONG_TEXT),
        sa.Column("canvas", PAYLOAD),
        sa.Column("queue", ExactText(200)),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("completed_at", sa.BigInteger),
    )
    set_storage(op, "durable_instances", FOR_UPDATES)
    _index("durable_instances_created", "durable_instances", ["created_at", "id"])
    _index("durable_instances_parent", "durable_instances", ["parent_id"], where="parent_id")
    op.create_table(
        "durable_history",
        sa.Column("instance", ExactText(150), primary_key=True),
        sa.Column("execution", ExactText(32), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("events", PAYLOAD, nullable=False),
    )
    op.create_table(
        "durable_inbox",
        sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
        sa.Column("instance", ExactText(150), nullable=False),
        sa.Column("dedup", ExactText(120), nullable=False),
        sa.Column("kind", ExactText(30), nullable=False),
        sa.Column("execution", ExactText(32)),
        sa.Column("command", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("name", LONG_TEXT),
        sa.Column("payload", PAYLOAD),
        sa.Column("facts", LONG_TEXT),
        sa.Column("visible_at", sa.BigInteger, nullable=False),
        sa.Column("wake_at", sa.BigInteger),
        sa.Column("check_at", sa.BigInteger),
        sa.Column("sends", sa.Integer, nullable=False),
    )
    set_storage(op, "durable_inbox", FOR_QUEUES)
    _index("durable_inbox_dedup", "durable_inbox", ["instance", "dedup"], unique=True)
    _index("durable_inbox_visible", "durable_inbox", ["instance", "visible_at"])
    _index("durable_inbox_check", "durable_inbox", ["check_at"], where="check_at")
    op.create_table(
        "durable_outbox",
        sa.Column("execution", ExactText(32), primary_key=True),
        sa.Column("command", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("instance", ExactText(150), nullable=False),
        sa.Column("kind", ExactText(10), nullable=False),
        sa.Column("name", ExactText(200), nullable=False),
        sa.Column("message", PAYLOAD),
        sa.Column("queue", ExactText(200)),
        sa.Column("join_command", sa.Integer),
        sa.Column("window_command", sa.Integer),
        sa.Column("is_held", sa.Boolean, nullable=False),
        sa.Column("is_delegated", sa.Boolean, nullable=False),
        sa.Column("sent_at", sa.BigInteger),
        sa.Column("sends", sa.Integer, nullable=False),
        sa.Column("holder", ExactText(32)),
        sa.Column("check_at", sa.BigInteger),
        sa.Column("deadline_at", sa.BigInteger),
        sa.Column("start_by", sa.BigInteger),
        sa.Column("beat_by", sa.BigInteger),
        sa.Column("beat_timeout", sa.BigInteger),
        sa.Column("details", PAYLOAD),
    )
    set_storage(op, "durable_outbox", FOR_QUEUES)
    _index(
        "durable_outbox_join",
        "durable_outbox",
        ["execution", "join_command", "command"],
        where="join_command",
    )
    _index(
        "durable_outbox_window",
        "durable_outbox",
        ["execution", "window_command", "command"],
        where="window_command",
    )
    _index("durable_outbox_check", "durable_outbox", ["check_at"], where="check_at")
    _index("durable_outbox_holder", "durable_outbox", ["holder"], where="holder")
    op.create_table(
        "durable_workers",
        sa.Column("id", ExactText(32), primary_key=True),
        sa.Column("hostname", ExactText(200)),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("workers", "outbox", "inbox", "history", "instances", "meta"):
        op.drop_table(f"durable_{table}")
