"""All SQL that names a table is in the table's own module, but for a few reads that join others."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_durable.store
from celery_durable.store import schema
from celery_durable.store.statements import Statement

#: The tables of each module.
OWN = {
    "instances": {"durable_instances"},
    "history": {"durable_history"},
    "inbox": {"durable_inbox"},
    "inbox_reads": {"durable_inbox"},
    "outbox": {"durable_outbox"},
    "checks": {"durable_outbox"},
    "attempts": {"durable_outbox"},
    "workers": {"durable_workers"},
    "schedules": {"durable_schedules"},
    "admission": {"durable_waiting", "durable_places", "durable_limits"},
    "switches": {"durable_switches", "durable_held"},
    "answers": {"durable_answers"},
    "audit": {"durable_audit"},
    "archiving": {"durable_archiving"},
    "large_payloads": {"durable_objects"},
    "sweeping": {"durable_objects"},
    "activity_limits": {"durable_activity_waiting", "durable_activity_places"},
    "migrate": {"durable_meta", "durable_alembic_version"},
    "upkeep": {"durable_meta", "durable_instances"},
}
#: What may name every table: whole transactions as one statement, and what declares the tables.
EVERY = {"postgres_statements", "schema", "storage", "lists"}
#: The statements that read, or ask, another table beside their own.
JOINED = {
    "history.LOAD_HISTORY": {"durable_instances"},
    "answers.INSERT_ANSWER": {"durable_instances"},
    "answers.LOOK": {"durable_instances"},
    "inbox.DISCARD": {"durable_instances"},
    "inbox.SEND_INBOX": {"durable_instances"},
    "inbox.SEND_ENDING": {"durable_instances"},
    "inbox.DUE_WAKES": {"durable_instances"},
    "inbox.DUE_WAKES_IF": {"durable_instances"},
    "instances.OPEN_CHILDREN": {"durable_inbox"},
    "instances.LINEAGE_OF": {"durable_inbox"},
    "instances.DUE_PURGES": {"durable_inbox", "durable_outbox"},
    "instances.DUE_ARCHIVES": {"durable_inbox", "durable_outbox"},
    "instances.CLEAN_ENTITY": {"durable_inbox"},
    "archiving.FORGET_GONE": {"durable_instances"},
    "archiving.COUNT_DUE": {"durable_instances"},
    "archiving.COUNT_FAILED": {"durable_instances"},
    "archiving.LAST_FAILED": {"durable_instances"},
    "attempts.START_COLUMNS": {"durable_inbox"},
    "attempts.BEGIN_ACTIVITY": {"durable_instances", "durable_inbox"},
    "attempts.IS_FREE": {"durable_workers"},
    "attempts.MAY_BEGIN": {"durable_workers"},
    "attempts.CLOSE_GATE": {"durable_workers"},
    "switches.NOTE_HELD": {"durable_outbox"},
    "switches.HELD": {"durable_outbox", "durable_instances"},
    "attempts.CLAIM": {"durable_workers"},
    "attempts.RUN_UNCLAIMED": {"durable_workers"},
    "attempts.INTERRUPTED": {"durable_instances"},
    "attempts.FREE_CLAIMED": {"durable_workers"},
    "checks.DUE_ACTIVITIES": {"durable_instances"},
    "workers.ABANDONED": {"durable_outbox"},
    **{
        f"activity_limits.{name}": {"durable_outbox"}
        for name in (
            "BY_TASK",
            "HEADS",
            "HEADS_BY_STEPS",
            "PARTITION",
            "PARTITIONS",
            "PARTITIONS_BEFORE",
            "LOST_SLOTS",
            "LOST_WAITING",
            "OF_EXECUTION",
            "TAKEN",
        )
    },
    "activity_limits.IS_DUE": {"durable_limits"},
    "schedules.DUE_SCHEDULES": {"durable_instances"},
    "admission.LOST_SLOTS": {"durable_instances"},
    "admission.LOST_WAITING": {"durable_instances"},
    "large_payloads.OWNER": {"durable_outbox"},
    "large_payloads.STORE_ID": {"durable_meta"},
    "sweeping.IS_USED": {
        "durable_answers",
        "durable_history",
        "durable_inbox",
        "durable_instances",
        "durable_outbox",
    },
    **dict.fromkeys(
        ("checks.LOOK", "checks.LOOK_BY_ONE_INDEX"),
        {
            "durable_inbox",
            "durable_outbox",
            "durable_workers",
            "durable_schedules",
            "durable_waiting",
            "durable_places",
            "durable_switches",
            "durable_instances",
            "durable_activity_waiting",
            "durable_activity_places",
        },
    ),
}
#: Modules that read by SQLAlchemy Core, across tables.
READERS = {
    "reencoding",
    "audit",
    "overview",
    "causes",
    "reads",
    "filters",
    "pages",
    "waits",
    "metrics_snapshot",
    "workers",
}

FOLDER = Path(celery_durable.store.__file__).parent
MODULES = sorted(info.name for info in pkgutil.iter_modules([str(FOLDER)]) if not info.ispkg)
each = pytest.mark.parametrize("module", MODULES, ids=lambda name: f"{name}.py".replace("_", ""))
TABLE = re.compile(r"\b(durable_[a-z_]+)\b")
TABLES = {table.name for table in schema.metadata.tables.values()} | {"durable_alembic_version"}


def named_tables(text: str) -> set[str]:
    return set(TABLE.findall(text)) & TABLES


def texts(module: str) -> Iterator[tuple[str, str]]:
    """Give the statements, and parts of statements, that a module has made, by name."""
    for name, value in vars(importlib.import_module(f"celery_durable.store.{module}")).items():
        if isinstance(value, Statement):
            yield name, value.sql
        elif isinstance(value, str) and not name.startswith("_"):
            yield name, value


def written_in(module: str) -> str:
    return (FOLDER / f"{module}.py").read_text()


@each
def test_a_statement_is_in_the_module_of_its_table(module: str) -> None:
    if module in EVERY:
        return
    source = written_in(module)
    for name, sql in texts(module):
        if not re.search(rf"^{name} = ", source, re.MULTILINE):
            continue  # it was made by another module, and imported
        others = named_tables(sql) - OWN.get(module, set())
        assert others <= JOINED.get(f"{module}.{name}", set()), (name, sql)


@each
def test_no_module_names_the_table_of_another(module: str) -> None:
    if module in EVERY:
        return
    allowed = set(OWN.get(module, set()))
    for place, tables in JOINED.items():
        if place.startswith(f"{module}."):
            allowed |= tables
    for number, line in enumerate(written_in(module).splitlines(), 1):
        if not line.lstrip().startswith(("#", '"""', "``")):
            assert named_tables(line) - _quoted(line) <= allowed, f"{module}.py, line {number}"


def _quoted(line: str) -> set[str]:
    """Return the names that stand in the prose of a docstring."""
    return set(re.findall(r"``(durable_[a-z_]+)``", line))


@each
def test_tables_are_read_by_core_in_a_few_modules_only(module: str) -> None:
    if re.search(r"^from \.schema import", written_in(module), re.MULTILINE):
        assert module in READERS


def test_what_is_listed_as_joined_joins() -> None:
    for place, tables in JOINED.items():
        module, _, name = place.partition(".")
        assert tables <= named_tables(dict(texts(module))[name]), place
