"""Reading: list, count, show, history, explain, wait, result."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ..core.status import RuntimeStatus
from ..errors import DurableError, OrchestrationFailed, WaitTimeout
from ..handles.fields import json_output_of
from ..handles.orchestration import Orchestration
from ..inspection.views import (
    age,
    current_waits,
    instance_view,
    is_failure,
    iso,
    plain,
    timeline_view,
)
from .entry import FAILED, TIMED_OUT, command, leave
from .output import (
    formatted,
    print_json,
    report,
    show_line,
    show_lines,
    show_one,
    show_rows,
    styled,
    visible,
)
from .parameters import ID, chosen_filters, filters, instance_id, page

__all__ = ["count", "explain", "history", "list_", "print_result", "result", "show", "wait"]

_COLUMNS = ("id", "name", "status", "age", "waits_for", "reason")


@click.command("list")
@filters
@page
@click.option("--all", "shows_all", is_flag=True, help="Every page.")
@formatted()
@command
def list_(
    durable: Any, limit: int, cursor: str | None, shows_all: bool, form: str | None, **options: Any
) -> None:
    """List orchestrations, newest first, and what each waits for."""
    chosen, rows = chosen_filters(**options), list[dict[str, Any]]()
    while True:
        found = durable.find(limit=1000 if shows_all else limit, cursor=cursor, **chosen)
        waits = {} if form == "ids" else current_waits(durable, found.items)
        rows += [
            instance_view(run) | {"age": age(run.created_at), "waits_for": waits.get(run.id)}
            for run in found.items
        ]
        cursor = found.next_cursor
        if cursor is None or not shows_all:
            break
    show_rows(rows, _COLUMNS, form, next_cursor=cursor)
    if cursor is not None:
        report(f"there are more: --cursor {cursor}, or --all")


@click.command()
@filters
@command
def count(durable: Any, **options: Any) -> None:
    """Count orchestrations."""
    click.echo(durable.count(**chosen_filters(**options)))


_FILE = click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path)


@click.command()
@instance_id
@click.option("--payloads", is_flag=True, help="Input, output, status, context and failure too.")
@click.option(
    "--html",
    type=_FILE,
    help="Write a page with timeline, table and data, for a ticket; - for standard output.",
)
@click.option("--svg", type=_FILE, help="Write the timeline alone.")
@click.option("--mermaid", is_flag=True, help="Print the timeline as a Mermaid gantt.")
@formatted()
@command
def show(
    durable: Any,
    instance_id: str,
    payloads: bool,
    html: Path | None,
    svg: Path | None,
    mermaid: bool,
    form: str | None,
) -> None:
    """Show one orchestration."""
    if sum(map(bool, (html, svg, mermaid, form))) > 1:
        raise ValueError("give one of --html, --svg, --mermaid and --format")
    run = durable.get(instance_id)
    if html or svg or mermaid:
        _draw(run, html, svg, payloads)
        return
    shown = instance_view(run, payloads=payloads)
    shown["deadline"] = iso(run.deadline)
    show_one(shown | {"waits_for": current_waits(durable, [run])[run.id]}, form)


def _draw(run: Orchestration, html: Path | None, svg: Path | None, payloads: bool) -> None:
    from ..inspection import drawing
    from ..inspection.timeline import timeline_of

    if html is not None:
        _write(html, drawing.page(run, payloads=payloads))
    elif svg is not None:
        _write(svg, drawing.svg(timeline_of(run), embeds_style=True))
    else:
        click.echo(drawing.mermaid(timeline_of(run)), nl=False)


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}") from None
    report(f"wrote {path}")


@click.command()
@instance_id
@click.option("--failed", is_flag=True, help="Only failures, suspensions and ends by hand.")
@click.option("--payloads", is_flag=True)
@formatted(has_ids=False)
@command
def history(durable: Any, instance_id: str, failed: bool, payloads: bool, form: str | None) -> None:
    """Show the history of one orchestration; the numbers are those of fork --at."""
    run = durable.get(instance_id)
    rows = timeline_view(run, run.history(), payloads=payloads)
    shown = [row for row in rows if not failed or is_failure(row["kind"])]
    show_rows(
        shown, ("number", "at", "kind", "command", "attempt", "name", "error"), form, key="number"
    )


@click.command()
@click.argument("ids", type=ID, nargs=-1, required=True, metavar="ID...")
@click.option("--timeout", type=float, help="Seconds to wait at most, for all.")
@command
def wait(durable: Any, ids: tuple[str, ...], timeout: float | None) -> None:
    """Wait until all are over; exit code 5 if one of them did not complete, 6 if time ran out."""
    end = None if timeout is None else time.monotonic() + timeout
    runs = [durable.get(id_) for id_ in ids]
    for run in runs:
        with suppress(Exception):
            run.wait(None if end is None else max(0.0, end - time.monotonic()))
    statuses = {run.id: run.refresh().runtime_status for run in runs}
    for id_, status in statuses.items():
        show_line(f"{visible(id_)} {styled(status)}")
    if not all(status.is_terminal for status in statuses.values()):
        leave(TIMED_OUT)
    if any(status is not RuntimeStatus.COMPLETED for status in statuses.values()):
        leave(FAILED)


@click.command()
@instance_id
@click.option(
    "--timeout", type=float, default=0.0, show_default=True, help="Seconds to wait for it."
)
@command
def result(durable: Any, instance_id: str, timeout: float) -> None:
    """Print the result of one orchestration as JSON."""
    print_result(durable.get(instance_id), timeout)


def print_result(run: Orchestration, timeout: float | None) -> None:
    """Wait, and print the result as JSON.

    Leave with the exit code of what became of it otherwise.
    """
    try:
        run.wait(timeout)
    except Exception as error:
        status = run.refresh().runtime_status
        if (
            isinstance(error, DurableError)
            and not isinstance(error, (OrchestrationFailed, WaitTimeout))
            and not status.is_terminal
        ):
            raise
        if not status.is_terminal:
            report(f"{run.id} is {status}: it has no result yet")
            leave(TIMED_OUT)
        report(f"{run.id} is {status}: {type(error).__name__}: {error}")
        leave(FAILED)
    print_json(plain(json_output_of(run)))


@click.command()
@instance_id
@command
def explain(durable: Any, instance_id: str) -> None:
    """Say in words what one orchestration waits for, and what to do."""
    show_lines(str(durable.get(instance_id).explain()))
