"""What the lists of operators are found by, at no cost for a turn.

PostgreSQL updates a row in place (HOT) as long as the value of no indexed column changes. So no
index is on the status: ``listed_as``, which the database derives, is NULL from the start of an
instance to its end, if it has nothing to be looked for: it ends soon, and well. It is the status of
one that has failed, was canceled or terminated, or is suspended; ``BLOCKED`` while a live one says
why it does not move; and the status of a live one that has been so for a while (``is_lasting``,
which ``upkeep`` sets). Younger ones are found by when they were created.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

__all__ = ["BLOCKED", "LISTED_AS", "LONG_TAGS", "RESENT", "TAG_DDL", "TAG_KEYS", "UNSENT", "Listed"]

BLOCKED = "BLOCKED"
LISTED_AS = (
    "CASE WHEN status IN ('SUSPENDED', 'FAILED', 'CANCELED', 'TERMINATED') THEN status"
    " WHEN status IN ('PENDING', 'RUNNING') AND reason IS NOT NULL THEN 'BLOCKED'"
    " WHEN status IN ('PENDING', 'RUNNING') AND is_lasting THEN status END"
)
#: Instead of tags that are too long for an index, which are found by this and then looked at.
LONG_TAGS = "*"
#: The pairs of the tags, as an array.
TAG_KEYS = (
    f"(string_to_array(CASE WHEN octet_length(tags) > 2000 THEN '{LONG_TAGS}' ELSE tags END,"
    " chr(10)))"
)
#: How PostgreSQL finds tags. Without the statistics, which it has since 14, it takes every tag for
#: one that many instances have, and reads all for it.
TAG_DDL = (
    f"CREATE INDEX durable_instances_tags ON durable_instances USING gin ({TAG_KEYS})"
    " WITH (gin_pending_list_limit = 256) WHERE tags IS NOT NULL",
    "DO $$ BEGIN IF current_setting('server_version_num')::int >= 140000 THEN"
    f" CREATE STATISTICS durable_instances_tag_keys ON {TAG_KEYS} FROM durable_instances; END IF;"
    " END $$",
)
RESENT = "sends >= 3"
UNSENT = "sent_at IS NULL AND holder IS NULL AND is_held IS FALSE AND gate IS NULL"


class Listed(sa.Computed):
    """A column that the database derives; stored on PostgreSQL, which indexes no others."""


@compiles(Listed, "postgresql")
def _postgresql(column: Any, compiler: Any, **_: Any) -> str:
    return f"GENERATED ALWAYS AS ({column.sqltext.text}) STORED"
