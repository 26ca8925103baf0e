"""Indexes by which recovery reads nothing that merely waits for a worker.

Workers of the release before find what is due without the index that goes, by reading the whole
outbox, as long as they run.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

QUEUED = (
    "check_at IS NOT NULL AND gate IS NULL AND kind = 'activity' AND sent_at IS NOT NULL AND holder"
    " IS NULL AND is_delegated IS FALSE AND crashes IS NULL"
)
CHECKED = (
    "check_at IS NOT NULL AND gate IS NULL AND (kind <> 'activity' OR sent_at IS NULL OR holder IS"
    " NOT NULL OR is_delegated IS TRUE OR crashes IS NOT NULL)"
)
PARTIAL = {
    "durable_outbox_checked": (["check_at"], CHECKED),
    "durable_outbox_queued": (["queue", "check_at"], QUEUED),
    "durable_outbox_deadline": (["deadline_at"], f"{QUEUED} AND deadline_at IS NOT NULL"),
    "durable_outbox_start_by": (["start_by"], f"{QUEUED} AND start_by IS NOT NULL"),
}


def _has_partial_indexes() -> bool:
    return str(op.get_context().dialect.name) not in ("mysql", "mariadb")


def _make(name: str, columns: list[str], rows: str) -> None:
    where = sa.text(rows)
    op.create_index(name, "durable_outbox", columns, postgresql_where=where, sqlite_where=where)


def upgrade() -> None:
    if _has_partial_indexes():
        for name, (columns, rows) in PARTIAL.items():
            _make(name, columns, rows)
        op.drop_index("durable_outbox_check", "durable_outbox")


def downgrade() -> None:
    if _has_partial_indexes():
        _make("durable_outbox_check", ["check_at"], "check_at IS NOT NULL")
        for name in PARTIAL:
            op.drop_index(name, "durable_outbox")
