"""Answers to requests."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.storage import FOR_QUEUES, set_storage
from celery_durable.store.types import PAYLOAD, ExactText

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "durable_answers",
        sa.Column("instance", ExactText(150), primary_key=True),
        sa.Column("request", ExactText(48), primary_key=True),
        sa.Column("outcome", sa.Integer, nullable=False),
        sa.Column("payload", PAYLOAD),
        sa.Column("answered_at", sa.BigInteger, nullable=False),
    )
    op.create_index("durable_answers_answered", "durable_answers", ["answered_at"])
    set_storage(op, "durable_answers", FOR_QUEUES)


def downgrade() -> None:
    op.drop_table("durable_answers")
