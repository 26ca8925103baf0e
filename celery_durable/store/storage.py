"""How PostgreSQL keeps a table, beyond its columns.

The migrations say it by ALTER TABLE, which any SQLAlchemy 2 can say.

Instances are updated in place, so their pages keep room. Rows of a queue come and go: they are
vacuumed soon.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FOR_QUEUES", "FOR_UPDATES", "STORAGE", "set_storage"]

FOR_UPDATES = "fillfactor=80"
FOR_QUEUES = (
    "autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000,"
    " autovacuum_vacuum_cost_delay=0"
)
#: The storage parameters of each table that has any.
STORAGE = {
    "durable_instances": FOR_UPDATES,
    **dict.fromkeys(
        (
            "durable_inbox",
            "durable_outbox",
            "durable_waiting",
            "durable_places",
            "durable_answers",
            "durable_activity_waiting",
            "durable_activity_places",
        ),
        FOR_QUEUES,
    ),
}


def set_storage(op: Any, table: str, parameters: str) -> None:
    """Give a table its storage parameters, within a migration; other databases have none."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} SET ({parameters})")
