"""Starting an orchestrator, or a plain task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from .entry import command
from .output import print_id, report
from .parameters import JSON, ORCHESTRATOR, tags
from .reading import print_result

__all__ = ["start"]


@click.command()
@click.argument("name", type=ORCHESTRATOR)
@click.option("--input", "given", type=JSON, help="The one argument, as JSON, @file or -.")
@click.option("-a", "--args", "args", type=JSON, help="All positional arguments, as a JSON list.")
@click.option("-k", "--kwargs", "kwargs", type=JSON, help="Keyword arguments, as a JSON object.")
@click.option("--id", "instance_id")
@click.option(
    "--at", "start_at", metavar="TIME", help="An ISO time to begin at (UTC where it has no zone)."
)
@click.option("--version", help="Of its code; the newest if left out.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=tags)
@click.option(
    "--if-exists", type=click.Choice(["return", "raise", "restart", "replace"]), default="return"
)
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@command
def start(
    durable: Any,
    name: str,
    given: Any,
    args: Any,
    kwargs: Any,
    start_at: str | None,
    wait: bool,
    timeout: float | None,
    **options: Any,
) -> None:
    """Start the orchestrator or the task NAME, and print the id."""
    task = durable.app.tasks.get(name)
    if task is None:
        known = ", ".join(sorted(durable.registry.names()))
        raise ValueError(f"there is no task {name!r}; the orchestrators are {known}")
    if given is not None and args is not None:
        raise ValueError("give --input or --args, not both")
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise ValueError("--args is a JSON list, --kwargs a JSON object")
    positional = [given] if given is not None else args or []
    when = None if start_at is None else _aware(datetime.fromisoformat(start_at))
    run = durable.start(task.s(*positional, **(kwargs or {})), start_at=when, **options)
    if wait:
        report(run.id)
        print_result(run, timeout)
    else:
        print_id(run.id)


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
