"""Since when an activity waits for its completion by token."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("durable_outbox", sa.Column("deferred_at", sa.BigInteger))


def downgrade() -> None:
    with op.batch_alter_table("durable_outbox") as table:
        table.drop_column("deferred_at")
