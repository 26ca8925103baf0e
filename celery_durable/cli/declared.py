"""What there is beside orchestrations: orchestrators, schedules, entities."""

from __future__ import annotations

import inspect
from typing import Any

import click

from ..inspection.views import entity_view, schedule_view
from .entry import command
from .output import formatted, print_id, report, show_one, show_rows
from .parameters import SCHEDULE, page

__all__ = ["entities", "orchestrators", "schedules"]


@click.command()
@formatted(has_ids=False)
@command
def orchestrators(durable: Any, form: str | None) -> None:
    """List orchestrators and versions: what this process has, and what orchestrations that are not
    over need.
    """
    rows = []
    for use in durable.versions():
        definition = durable.registry.get(use.name, use.version)
        rows.append(
            {
                "name": use.name,
                "version": use.version,
                "share": use.share,
                "live": use.live,
                "registered": use.is_registered,
                "safe_to_remove": use.is_safe_to_remove,
                "source": _source(definition.function) if definition else None,
            }
        )
    show_rows(
        rows,
        ("name", "version", "share", "live", "registered", "safe_to_remove", "source"),
        form,
        key="name",
    )


def _source(function: Any) -> str | None:
    if (cls := getattr(function, "durable_class", None)) is not None:
        return _place_of(cls)
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def _place_of(cls: type) -> str | None:
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return None


@click.group(invoke_without_command=True)
@click.option("--prune", is_flag=True, help="Delete those that are undeclared; print their names.")
@formatted()
@click.pass_context
def schedules(ctx: click.Context, form: str | None, prune: bool) -> None:
    """List schedules, or steer one: pause, resume, trigger, delete."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(_prune if prune else _list_schedules, **({} if prune else {"form": form}))
    elif form is not None or prune:
        raise click.UsageError("--format and --prune are for the list of schedules")


@command
def _prune(durable: Any) -> None:
    for schedule in durable.schedules():
        if schedule.is_undeclared and schedule.prune():
            print_id(schedule.name)


@command
def _list_schedules(durable: Any, form: str | None) -> None:
    rows = [schedule_view(schedule) for schedule in durable.schedules()]
    show_rows(
        rows,
        ("name", "orchestrator", "cron", "interval", "next_at", "last_id", "state"),
        form,
        key="name",
    )


_name = click.argument("name", type=SCHEDULE)


@schedules.command()
@_name
@formatted(has_ids=False)
@command
def show(durable: Any, name: str, form: str | None) -> None:
    """Show the schedule NAME."""
    show_one(schedule_view(durable.get_schedule(name)), form)


@schedules.command()
@_name
@click.option("--reason", help="Shown while it is paused.")
@command
def pause(durable: Any, name: str, reason: str | None) -> None:
    """Start nothing by the schedule NAME until it is resumed."""
    durable.get_schedule(name).pause(reason=reason)
    report(f"schedule {name}: paused")


@schedules.command()
@_name
@command
def resume(durable: Any, name: str) -> None:
    """Continue with the next tick of the schedule NAME."""
    durable.get_schedule(name).resume()
    report(f"schedule {name}: resumed")


@schedules.command()
@_name
@command
def trigger(durable: Any, name: str) -> None:
    """Start an extra instance of the schedule NAME now, and print its id."""
    print_id(durable.get_schedule(name).trigger().id)


@schedules.command()
@_name
@click.option("--yes", is_flag=True, help="Do not ask.")
@command
def delete(durable: Any, name: str, yes: bool) -> None:
    """Delete the schedule NAME; what it has started continues."""
    schedule = durable.get_schedule(name)
    if not yes:
        click.confirm(f"delete the schedule {schedule.name}?", abort=True, err=True)
    schedule.delete()
    report(f"schedule {name}: deleted")


@click.command()
@click.argument("name", required=False)
@page
@click.option("--clean", is_flag=True, help="Delete those that are empty, instead.")
@formatted()
@command
def entities(
    durable: Any, name: str | None, limit: int, cursor: str | None, clean: bool, form: str | None
) -> None:
    """List entities, of class NAME or of all."""
    if clean:
        click.echo(f"{durable.clean_entities(name)} deleted")
        return
    found = durable.entities(name, limit=limit, cursor=cursor)
    rows = [entity_view(entity) for entity in found.items]
    show_rows(
        rows,
        ("name", "key", "state", "locked_by", "waiting", "updated_at"),
        form,
        next_cursor=found.next_cursor,
    )
