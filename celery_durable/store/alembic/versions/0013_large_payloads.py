"""What lies in the payload store."""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.types import ExactText

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "durable_objects",
        sa.Column("id", ExactText(150), primary_key=True),
        sa.Column("instance", ExactText(150), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("check_at", sa.BigInteger, nullable=False),
    )
    op.create_index("durable_objects_check", "durable_objects", ["check_at"])
    op.create_index("durable_objects_instance", "durable_objects", ["instance"])


def downgrade() -> None:
    op.drop_table("durable_objects")
