"""The audit trail: who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from ..inspection.views import audit_view
from .entry import command
from .output import formatted, report, show_rows
from .parameters import moment, page

__all__ = ["audit"]

_COLUMNS = ("at", "actor", "door", "verb", "target", "effect", "reason", "arguments")


@click.command()
@click.argument("target", required=False, metavar="[ID]")
@click.option("--actor", help="Who did it.")
@click.option("--door", type=click.Choice(["cli", "admin", "flower", "http", "code"]))
@click.option("--verb", help="What was done, such as purge.")
@click.option(
    "--kind",
    type=click.Choice(["orchestration", "schedule", "task", "queue", "orchestrator"]),
    help="To what it was done.",
)
@click.option("--since", callback=moment, metavar="WHEN", help="An ISO time, or an age such as 2h.")
@click.option("--until", callback=moment, metavar="WHEN")
@page
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@formatted()
@command
def audit(
    durable: Any,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    form: str | None,
    **chosen: Any,
) -> None:
    """List who did what, newest first: to one orchestration or schedule ID, or to all."""
    if as_json and form not in (None, "json"):
        raise click.UsageError("give --json or --format, not both")
    found = durable.audit(target, since=since, until=until, limit=limit, cursor=cursor, **chosen)
    rows = [audit_view(entry) for entry in found.items]
    show_rows(rows, _COLUMNS, "json" if as_json else form, key="id", next_cursor=found.next_cursor)
    if found.next_cursor is not None:
        report(f"there are more: --cursor {found.next_cursor}")
