"""Schedules of ``beat_schedule``, and which worker declares which."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.types import LONG_TEXT

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("durable_workers", sa.Column("declares", LONG_TEXT))
    op.add_column("durable_schedules", sa.Column("is_declared", sa.Boolean))


def downgrade() -> None:
    with op.batch_alter_table("durable_schedules") as table:
        table.drop_column("is_declared")
    with op.batch_alter_table("durable_workers") as table:
        table.drop_column("declares")
