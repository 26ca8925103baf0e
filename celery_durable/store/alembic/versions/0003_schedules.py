"""Schedules."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.types import LONG_TEXT, PAYLOAD, ExactText

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "durable_schedules",
        sa.Column("name", ExactText(100), primary_key=True),
        sa.Column("orchestrator", ExactText(200), nullable=False),
        sa.Column("input", PAYLOAD, nullable=False),
        sa.Column("canvas", PAYLOAD),
        sa.Column("queue", ExactText(200)),
        sa.Column("cron", LONG_TEXT),
        sa.Column("every", sa.BigInteger),
        sa.Column("timezone", ExactText(100), nullable=False),
        sa.Column("anchor_at", sa.BigInteger, nullable=False),
        sa.Column("overlap", ExactText(10), nullable=False),
        sa.Column("catch_up", sa.BigInteger, nullable=False),
        sa.Column("jitter", sa.BigInteger, nullable=False),
        sa.Column("is_paused", sa.Boolean, nullable=False),
        sa.Column("reason", LONG_TEXT),
        sa.Column("next_at", sa.BigInteger),
        sa.Column("waiting_at", sa.BigInteger),
        sa.Column("last_at", sa.BigInteger),
        sa.Column("last_id", ExactText(150)),
        sa.Column("skipped", sa.BigInteger, nullable=False),
        sa.Column("check_at", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    clause = sa.text("check_at IS NOT NULL")
    op.create_index(
        "durable_schedules_check",
        "durable_schedules",
        ["check_at"],
        postgresql_where=clause,
        sqlite_where=clause,
    )


def downgrade() -> None:
    op.drop_table("durable_schedules")
