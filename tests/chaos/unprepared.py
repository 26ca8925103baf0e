"""A pytest plugin: the tests' own engines prepare no statements, which a bouncer without support
for them would mix up.

The engine's connections, which set keep-alives of their own, are left as they are: they have to
find out by themselves.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


@sa.event.listens_for(sa.Engine, "do_connect")
def _unprepared(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
    if dialect.driver == "psycopg" and "tcp_user_timeout" not in options:
        options["prepare_threshold"] = None
