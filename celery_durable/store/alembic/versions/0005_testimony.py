"""Up to when each worker has said which messages it has."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("durable_workers", sa.Column("told_at", sa.BigInteger))


def downgrade() -> None:
    with op.batch_alter_table("durable_workers") as table:
        table.drop_column("told_at")
