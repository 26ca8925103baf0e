"""How often the worker of an activity died."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("durable_outbox", sa.Column("crashes", sa.Integer))


def downgrade() -> None:
    with op.batch_alter_table("durable_outbox") as table:
        table.drop_column("crashes")
