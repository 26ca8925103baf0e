"""Switches of operators, and what pauses hold."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.types import LONG_TEXT, ExactText

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("durable_outbox", sa.Column("gate", ExactText(10)))
    op.create_table(
        "durable_switches",
        sa.Column("kind", ExactText(20), primary_key=True),
        sa.Column("name", ExactText(200), primary_key=True),
        sa.Column("value", LONG_TEXT),
        sa.Column("reason", LONG_TEXT),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("lifted_at", sa.BigInteger),
    )
    op.create_table(
        "durable_held",
        sa.Column("execution", ExactText(32), primary_key=True),
        sa.Column("command", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("instance", ExactText(150), nullable=False),
        sa.Column("kind", ExactText(20), nullable=False),
        sa.Column("name", ExactText(200), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_index("durable_held_pause", "durable_held", ["kind", "name", "since"])


def downgrade() -> None:
    op.drop_table("durable_held")
    op.drop_table("durable_switches")
    with op.batch_alter_table("durable_outbox") as table:
        table.drop_column("gate")
