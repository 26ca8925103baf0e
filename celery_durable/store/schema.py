"""The tables. No foreign keys to instances: an insert into an inbox must never wait for a turn.

Times are microseconds since the epoch, UTC, by the database's clock. Payloads are bytes, so that no
character is refused. ``visible_at`` of a message that is to be seen at once is when it arrived,
below zero: so it is seen though the clock be set back. ``check_at`` is when recovery looks at a row
next; NULL is never. What PostgreSQL is told about storage is in ``storage``.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .checks import CHECKED, QUEUED
from .lists import LISTED_AS, RESENT, TAG_DDL, UNSENT, Listed
from .storage import STORAGE
from .types import BIG_KEY, LONG_TEXT, PAYLOAD, ExactText

__all__ = [
    "activity_places",
    "activity_waiting",
    "answers",
    "archiving",
    "audit",
    "held",
    "history",
    "inbox",
    "instances",
    "limits",
    "meta",
    "metadata",
    "objects",
    "outbox",
    "places",
    "schedules",
    "switches",
    "waiting",
    "workers",
]

metadata: Any = sa.MetaData()


def _where(column: str) -> dict[str, Any]:
    """Return the options of an index that leaves NULLs out, where the database can."""
    clause = sa.text(f"{column} IS NOT NULL")
    return {"postgresql_where": clause, "sqlite_where": clause}


def _only(index: Any, *families: str) -> Any:
    """Return an index that is made in some databases only."""
    index.info["only"] = families
    return index.ddl_if(
        callable_=lambda ddl, target, bind, *, dialect, **_: dialect.name in families
    )


def _partial(name: str, rows: str, *columns: str) -> Any:
    """Return an index of some rows, where the database can have one."""
    where = sa.text(rows)
    index = sa.Index(name, *columns, postgresql_where=where, sqlite_where=where)
    return _only(index, "postgresql", "sqlite")


meta: Any = sa.Table(
    "durable_meta",
    metadata,
    sa.Column("name", ExactText(50), primary_key=True),
    sa.Column("value", ExactText(200)),
)

instances: Any = sa.Table(
    "durable_instances",
    metadata,
    sa.Column("id", ExactText(150), primary_key=True),
    sa.Column("execution", ExactText(32), nullable=False),
    sa.Column("name", ExactText(200), nullable=False),
    sa.Column("version", ExactText(50)),
    sa.Column("status", ExactText(12), nullable=False),
    sa.Column("reason", LONG_TEXT),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("input", PAYLOAD),
    sa.Column("output", PAYLOAD),
    sa.Column("failure", PAYLOAD),
    sa.Column("custom_status", PAYLOAD),
    sa.Column("parent_id", ExactText(150)),
    sa.Column("parent_execution", ExactText(32)),
    sa.Column("parent_command", sa.Integer),
    sa.Column("parent_attempt", sa.Integer),
    sa.Column("root_id", ExactText(200)),
    sa.Column("tags", LONG_TEXT),
    sa.Column("canvas", PAYLOAD),
    sa.Column("queue", ExactText(200)),
    sa.Column("crashes", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("completed_at", sa.BigInteger),
    sa.Column("policy", LONG_TEXT),
    sa.Column("purge_at", sa.BigInteger),
    sa.Column("is_lasting", sa.Boolean),
    sa.Column("listed_as", ExactText(12), Listed(LISTED_AS)),
    sa.Index("durable_instances_created", "created_at", "id"),
    sa.Index("durable_instances_name", "name", "created_at", "id"),
    sa.Index(
        "durable_instances_listed", "listed_as", "created_at", "id", "name", **_where("listed_as")
    ),
    sa.Index("durable_instances_parent", "parent_id", **_where("parent_id")),
    sa.Index("durable_instances_purge", "purge_at", **_where("purge_at")),
)

history: Any = sa.Table(
    "durable_history",
    metadata,
    sa.Column("instance", ExactText(150), primary_key=True),
    sa.Column("execution", ExactText(32), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("events", PAYLOAD, nullable=False),
)

inbox: Any = sa.Table(
    "durable_inbox",
    metadata,
    sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
    sa.Column("instance", ExactText(150), nullable=False),
    sa.Column("dedup", ExactText(120), nullable=False),
    sa.Column("kind", ExactText(30), nullable=False),
    sa.Column("execution", ExactText(32)),
    sa.Column("command", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("name", LONG_TEXT),
    sa.Column("payload", PAYLOAD),
    sa.Column("facts", LONG_TEXT),
    sa.Column("visible_at", sa.BigInteger, nullable=False),
    sa.Column("wake_at", sa.BigInteger),
    sa.Column("check_at", sa.BigInteger),
    sa.Column("sends", sa.Integer, nullable=False),
    sa.Index("durable_inbox_dedup", "instance", "dedup", unique=True),
    sa.Index("durable_inbox_visible", "instance", "visible_at"),
    sa.Index("durable_inbox_check", "check_at", **_where("check_at")),
)

outbox: Any = sa.Table(
    "durable_outbox",
    metadata,
    sa.Column("execution", ExactText(32), primary_key=True),
    sa.Column("command", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("instance", ExactText(150), nullable=False),
    sa.Column("kind", ExactText(10), nullable=False),
    sa.Column("name", ExactText(200), nullable=False),
    sa.Column("message", PAYLOAD),
    sa.Column("queue", ExactText(200)),
    sa.Column("join_command", sa.Integer),
    sa.Column("window_command", sa.Integer),
    sa.Column("is_held", sa.Boolean, nullable=False),
    sa.Column("is_delegated", sa.Boolean, nullable=False),
    sa.Column("sent_at", sa.BigInteger),
    sa.Column("sends", sa.Integer, nullable=False),
    sa.Column("holder", ExactText(32)),
    sa.Column("check_at", sa.BigInteger),
    sa.Column("deadline_at", sa.BigInteger),
    sa.Column("start_by", sa.BigInteger),
    sa.Column("beat_by", sa.BigInteger),
    sa.Column("beat_timeout", sa.BigInteger),
    sa.Column("details", PAYLOAD),
    sa.Column("crashes", sa.Integer),
    sa.Column("deferred_at", sa.BigInteger),
    sa.Column("gate", ExactText(10)),
    sa.Index(
        "durable_outbox_join", "execution", "join_command", "command", **_where("join_command")
    ),
    sa.Index(
        "durable_outbox_window",
        "execution",
        "window_command",
        "command",
        **_where("window_command"),
    ),
    sa.Index("durable_outbox_holder", "holder", **_where("holder")),
    _partial("durable_outbox_resent", RESENT, "execution"),
    _partial("durable_outbox_unsent", UNSENT, "execution"),
    _partial("durable_outbox_checked", CHECKED, "check_at"),
    _partial("durable_outbox_queued", QUEUED, "queue", "check_at"),
    _partial("durable_outbox_deadline", f"{QUEUED} AND deadline_at IS NOT NULL", "deadline_at"),
    _partial("durable_outbox_start_by", f"{QUEUED} AND start_by IS NOT NULL", "start_by"),
    _only(sa.Index("durable_outbox_check", "check_at"), "mysql", "mariadb"),
)

workers: Any = sa.Table(
    "durable_workers",
    metadata,
    sa.Column("id", ExactText(32), primary_key=True),
    sa.Column("hostname", ExactText(200)),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("last_seen", sa.BigInteger, nullable=False),
    sa.Column("told_at", sa.BigInteger),
    sa.Column("declares", LONG_TEXT),
)

schedules: Any = sa.Table(
    "durable_schedules",
    metadata,
    sa.Column("name", ExactText(100), primary_key=True),
    sa.Column("orchestrator", ExactText(200), nullable=False),
    sa.Column("input", PAYLOAD, nullable=False),
    sa.Column("canvas", PAYLOAD),
    sa.Column("queue", ExactText(200)),
    sa.Column("cron", LONG_TEXT),
    sa.Column("every", sa.BigInteger),
    sa.Column("timezone", ExactText(100), nullable=False),
    sa.Column("anchor_at", sa.BigInteger, nullable=False),
    sa.Column("overlap", ExactText(10), nullable=False),
    sa.Column("catch_up", sa.BigInteger, nullable=False),
    sa.Column("jitter", sa.BigInteger, nullable=False),
    sa.Column("is_paused", sa.Boolean, nullable=False),
    sa.Column("reason", LONG_TEXT),
    sa.Column("next_at", sa.BigInteger),
    sa.Column("waiting_at", sa.BigInteger),
    sa.Column("last_at", sa.BigInteger),
    sa.Column("last_id", ExactText(150)),
    sa.Column("skipped", sa.BigInteger, nullable=False),
    sa.Column("check_at", sa.BigInteger),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("is_declared", sa.Boolean),
    sa.Index("durable_schedules_check", "check_at", **_where("check_at")),
)

waiting: Any = sa.Table(
    "durable_waiting",
    metadata,
    sa.Column("instance", ExactText(150), primary_key=True),
    sa.Column("execution", ExactText(32), primary_key=True),
    sa.Column("name", ExactText(200), nullable=False),
    sa.Column("lane", ExactText(40), nullable=False),
    sa.Column("precedence", sa.Integer, nullable=False),
    sa.Column("ready_at", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("limits", LONG_TEXT, nullable=False),
    sa.Column("debounce", ExactText(40)),
    sa.Index("durable_waiting_lane", "name", "lane", "precedence", "ready_at", "instance"),
    sa.Index("durable_waiting_ready", "ready_at"),
    sa.Index("durable_waiting_debounce", "debounce", unique=True),
)

places: Any = sa.Table(
    "durable_places",
    metadata,
    sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
    sa.Column("name", ExactText(200), nullable=False),
    sa.Column("scope", ExactText(190), nullable=False),
    sa.Column("instance", ExactText(150), nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Index("durable_places_scope", "name", "scope", "expires_at"),
    sa.Index("durable_places_instance", "instance"),
    sa.Index("durable_places_expires", "expires_at", **_where("expires_at")),
)

limits: Any = sa.Table(
    "durable_limits",
    metadata,
    sa.Column("name", ExactText(200), primary_key=True),
    sa.Column("looked_at", sa.BigInteger, nullable=False),
)

switches: Any = sa.Table(
    "durable_switches",
    metadata,
    sa.Column("kind", ExactText(20), primary_key=True),
    sa.Column("name", ExactText(200), primary_key=True),
    sa.Column("value", LONG_TEXT),
    sa.Column("reason", LONG_TEXT),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("lifted_at", sa.BigInteger),
)

held: Any = sa.Table(
    "durable_held",
    metadata,
    sa.Column("execution", ExactText(32), primary_key=True),
    sa.Column("command", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("instance", ExactText(150), nullable=False),
    sa.Column("kind", ExactText(20), nullable=False),
    sa.Column("name", ExactText(200), nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Index("durable_held_pause", "kind", "name", "since"),
)

answers: Any = sa.Table(
    "durable_answers",
    metadata,
    sa.Column("instance", ExactText(150), primary_key=True),
    sa.Column("request", ExactText(48), primary_key=True),
    sa.Column("outcome", sa.Integer, nullable=False),
    sa.Column("payload", PAYLOAD),
    sa.Column("answered_at", sa.BigInteger, nullable=False),
    sa.Index("durable_answers_answered", "answered_at"),
)

activity_waiting: Any = sa.Table(
    "durable_activity_waiting",
    metadata,
    sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
    sa.Column("execution", ExactText(32), nullable=False),
    sa.Column("command", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("task", ExactText(200), nullable=False),
    sa.Column("queue", ExactText(200)),
    sa.Column("lane", ExactText(40), nullable=False),
    sa.Column("precedence", sa.Integer, nullable=False),
    sa.Column("ready_at", sa.BigInteger),
    sa.Column("limits", LONG_TEXT, nullable=False),
    sa.Index("durable_activity_waiting_attempt", "execution", "command", "attempt"),
    sa.Index(
        "durable_activity_waiting_lane",
        "lane",
        "precedence",
        "ready_at",
        "id",
        **_where("ready_at"),
    ),
    sa.Index("durable_activity_waiting_ready", "ready_at", **_where("ready_at")),
)

activity_places: Any = sa.Table(
    "durable_activity_places",
    metadata,
    sa.Column("id", BIG_KEY, primary_key=True, autoincrement=True),
    sa.Column("execution", ExactText(32), nullable=False),
    sa.Column("command", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("scope", ExactText(190), nullable=False),
    sa.Column("permit", LONG_TEXT, nullable=False),
    sa.Column("most", sa.Integer),
    sa.Column("expires_at", sa.BigInteger),
    sa.Index("durable_activity_places_expires", "expires_at", **_where("expires_at")),
)

audit: Any = sa.Table(
    "durable_audit",
    metadata,
    sa.Column("id", ExactText(32), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("kind", ExactText(20), nullable=False),
    sa.Column("target", ExactText(200)),
    sa.Column("verb", ExactText(20), nullable=False),
    sa.Column("actor", ExactText(200)),
    sa.Column("door", ExactText(10), nullable=False),
    sa.Column("reason", LONG_TEXT),
    sa.Column("arguments", LONG_TEXT),
    sa.Column("effect", ExactText(10), nullable=False),
    sa.Column("error", LONG_TEXT),
    sa.Column("made", ExactText(150)),
    sa.Index("durable_audit_at", "at", "id"),
    sa.Index("durable_audit_target", "target", "at", "id"),
    sa.Index("durable_audit_actor", "actor", "at", "id"),
    sa.Index("durable_audit_made", "made", "at", "id"),
)

archiving: Any = sa.Table(
    "durable_archiving",
    metadata,
    sa.Column("instance", ExactText(150), primary_key=True),
    sa.Column("execution", ExactText(32), nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("failed_at", sa.BigInteger, nullable=False),
    sa.Column("error", LONG_TEXT, nullable=False),
    sa.Index("durable_archiving_failed", "failed_at"),
)

objects: Any = sa.Table(
    "durable_objects",
    metadata,
    sa.Column("id", ExactText(150), primary_key=True),
    sa.Column("instance", ExactText(150), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("check_at", sa.BigInteger, nullable=False),
    sa.Index("durable_objects_check", "check_at"),
    sa.Index("durable_objects_instance", "instance"),
)

_ddl: Any = sa.DDL  # it has no types
for _name, _parameters in STORAGE.items():
    _set = _ddl(f"ALTER TABLE {_name} SET ({_parameters})").execute_if(dialect="postgresql")
    sa.event.listen(metadata.tables[_name], "after_create", _set)
for _statement in TAG_DDL:
    _make = _ddl(_statement).execute_if(dialect="postgresql")
    sa.event.listen(instances, "after_create", _make)
