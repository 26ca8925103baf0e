"""What the lists of operators are found by, at no cost for a turn.

PostgreSQL rewrites the table of instances for this, and makes its indexes: until the migration
has committed, no other process reads or writes it. Instances that live, or may live again, are
listed at once; those that start meanwhile are found by when they were created.
"""

import sqlalchemy as sa
from alembic import op

from celery_durable.store.types import ExactText

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LISTED_AS = (
    "CASE WHEN status IN ('SUSPENDED', 'FAILED', 'CANCELED', 'TERMINATED') THEN status"
    " WHEN status IN ('PENDING', 'RUNNING') AND reason IS NOT NULL THEN 'BLOCKED'"
    " WHEN status IN ('PENDING', 'RUNNING') AND is_lasting THEN status END"
)
TAG_KEYS = "(string_to_array(CASE WHEN octet_length(tags) > 2000 THEN '*' ELSE tags END, chr(10)))"
TAG_DDL = (
    f"CREATE INDEX durable_instances_tags ON durable_instances USING gin ({TAG_KEYS})"
    " WITH (gin_pending_list_limit = 256) WHERE tags IS NOT NULL",
    "DO $$ BEGIN IF current_setting('server_version_num')::int >= 140000 THEN"
    f" CREATE STATISTICS durable_instances_tag_keys ON {TAG_KEYS} FROM durable_instances; END IF;"
    " END $$",
)
PARTIAL = {
    "durable_outbox_resent": "sends >= 3",
    "durable_outbox_unsent": (
        "sent_at IS NULL AND holder IS NULL AND is_held IS FALSE AND gate IS NULL"
    ),
}


def _dialect() -> str:
    name = str(op.get_context().dialect.name)
    return "mysql" if name == "mariadb" else name


def upgrade() -> None:
    family = _dialect()
    op.add_column("durable_instances", sa.Column("is_lasting", sa.Boolean))
    op.execute(
        "UPDATE durable_instances SET is_lasting = TRUE"
        " WHERE status IN ('PENDING', 'RUNNING', 'SUSPENDED', 'FAILED')"
    )
    text = "CHAR(20)" if family == "mysql" else "VARCHAR(20)"
    op.execute(
        "INSERT INTO durable_meta (name, value) SELECT 'listed_until',"
        f" CAST(COALESCE(MAX(created_at), 0) - 120000000 AS {text}) FROM durable_instances"
    )
    op.add_column(
        "durable_instances",
        sa.Column("listed_as", ExactText(12), sa.Computed(LISTED_AS, persisted=_persisted(family))),
    )
    op.create_index("durable_instances_name", "durable_instances", ["name", "created_at", "id"])
    is_listed = sa.text("listed_as IS NOT NULL")
    op.create_index(
        "durable_instances_listed",
        "durable_instances",
        ["listed_as", "created_at", "id", "name"],
        postgresql_where=is_listed,
        sqlite_where=is_listed,
    )
    if family == "postgresql":
        for statement in TAG_DDL:
            op.execute(statement)
    if family != "mysql":
        for name, rows in PARTIAL.items():
            where = sa.text(rows)
            op.create_index(
                name, "durable_outbox", ["execution"], postgresql_where=where, sqlite_where=where
            )


def _persisted(family: str) -> bool | None:
    return True if family == "postgresql" else None


def downgrade() -> None:
    family = _dialect()
    if family != "mysql":
        for name in PARTIAL:
            op.drop_index(name, "durable_outbox")
    if family == "postgresql":
        op.execute("DROP STATISTICS IF EXISTS durable_instances_tag_keys")
        op.drop_index("durable_instances_tags", "durable_instances")
    op.drop_index("durable_instances_listed", "durable_instances")
    op.drop_index("durable_instances_name", "durable_instances")
    op.drop_column("durable_instances", "listed_as")  # SQLite copies no table for this
    op.drop_column("durable_instances", "is_lasting")
    op.execute("DELETE FROM durable_meta WHERE name = 'listed_until'")
