"""The audit trail, and what could not be archived yet."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.types import LONG_TEXT, ExactText

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
_FOUND_BY = ("target", "actor", "made")


def upgrade() -> None:
    op.create_table(
        "durable_audit",
        sa.Column("id", ExactText(32), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", ExactText(20), nullable=False),
        sa.Column("target", ExactText(200)),
        sa.Column("verb", ExactText(20), nullable=False),
        sa.Column("actor", ExactText(200)),
        sa.Column("door", ExactText(10), nullable=False),
        sa.Column("reason", LONG_TEXT),
        sa.Column("arguments", LONG_TEXT),
        sa.Column("effect", ExactText(10), nullable=False),
        sa.Column("error", LONG_TEXT),
        sa.Column("made", ExactText(150)),
    )
    op.create_index("durable_audit_at", "durable_audit", ["at", "id"])
    for column in _FOUND_BY:
        op.create_index(f"durable_audit_{column}", "durable_audit", [column, "at", "id"])
    op.create_table(
        "durable_archiving",
        sa.Column("instance", ExactText(150), primary_key=True),
        sa.Column("execution", ExactText(32), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("failed_at", sa.BigInteger, nullable=False),
        sa.Column("error", LONG_TEXT, nullable=False),
    )
    op.create_index("durable_archiving_failed", "durable_archiving", ["failed_at"])


def downgrade() -> None:
    op.drop_table("durable_archiving")
    op.drop_table("durable_audit")
