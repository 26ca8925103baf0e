"""Starting an orchestrator, or a plain task."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import IO, Any

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
@click.option(
    "--each",
    "lines",
    type=click.File("rb"),
    metavar="FILE",
    help="Start one for each line of a file (- is the standard input), whose JSON is its one"
    " argument: all of them in one commit, or none.",
)
@click.option("--id", "instance_id", help="With --each, {line} in it is the number of the line.")
@click.option(
    "--at", "start_at", metavar="TIME", help="An ISO time to begin at (UTC where it has no zone)."
)
@click.option("--version", help="Of its code; the newest if left out.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=tags)
@click.option(
    "--if-exists", type=click.Choice(["return", "raise", "restart", "replace"]), default="return"
)
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@click.option("--timeout", type=float, help="Seconds to wait at most, with --wait.")
@click.option("--run-timeout", type=float, help="Seconds that the whole run may take.")
@command
def start(
    durable: Any,
    name: str,
    given: Any,
    args: Any,
    kwargs: Any,
    lines: IO[bytes] | None,
    instance_id: str | None,
    start_at: str | None,
    wait: bool,
    timeout: float | None,
    run_timeout: float | None,
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
    when = None if start_at is None else _aware(datetime.fromisoformat(start_at))
    options["timeout"] = run_timeout
    if lines is not None:
        if given is not None or args is not None or wait:
            raise ValueError("--each goes without --input, --args and --wait")
        _start_each(durable, task, lines, kwargs or {}, instance_id, start_at=when, **options)
        return
    positional = [given] if given is not None else args or []
    signature = task.s(*positional, **(kwargs or {}))
    run = durable.start(signature, instance_id=instance_id, start_at=when, **options)
    if wait:
        report(run.id)
        print_result(run, timeout)
    else:
        print_id(run.id)


def _start_each(
    durable: Any,
    task: Any,
    lines: IO[bytes],
    kwargs: dict[str, Any],
    instance_id: str | None,
    **options: Any,
) -> None:
    """Start one for each line, and print their ids."""
    found, ids = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(task.s(json.loads(line), **kwargs))
        except ValueError as error:
            raise ValueError(
                f"--each: line {number} is no JSON ({error}); nothing was started"
            ) from error
        ids.append(None if instance_id is None else instance_id.replace("{line}", str(number)))
    if instance_id is not None and len(set(ids)) < len(ids):
        raise ValueError("--each: --id needs {line} in it, or all have the same id")
    for run in durable.start_many(found, instance_ids=ids, **options):
        print_id(run.id)


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
