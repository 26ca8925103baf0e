"""Steering: start, event, and the verbs for one or many."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from ..core.status import RuntimeStatus
from ..engine.verbs import WITHOUT_REASON, statuses_of
from ..errors import DurableError, InstanceNotFound, InvalidState
from .entry import NOT_POSSIBLE, command, leave
from .looking import print_result
from .output import give, say, say_lines, styled, tell, visible
from .parameters import ID, JSON, ORCHESTRATOR, chosen_filters, filters, instance_id, reason, tags

__all__ = ["VERBS", "event", "start"]


@click.command()
@click.argument("name", type=ORCHESTRATOR)
@click.option("--input", "given", type=JSON, help="The one argument, as JSON, @file or -.")
@click.option("-a", "--args", "args", type=JSON, help="All positional arguments, as a JSON list.")
@click.option("-k", "--kwargs", "kwargs", type=JSON, help="Keyword arguments, as a JSON object.")
@click.option("--id", "instance_id")
@click.option("--at", "start_at", metavar="TIME", help="An ISO time to begin at (UTC where it has no zone).")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=tags)
@click.option("--if-exists", type=click.Choice(["return", "raise", "restart", "replace"]), default="return")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
@command
def start(
    durable: Any, name: str, given: Any, args: Any, kwargs: Any, start_at: str | None, wait: bool, timeout: float | None,
    **options: Any,
) -> None:  # fmt: skip
    """Start the orchestrator NAME, and print the id."""
    task = durable.app.tasks.get(name)
    if task is None or name not in durable.registry:
        known = ", ".join(sorted(durable.registry.names()))
        raise ValueError(f"there is no orchestrator {name!r}; known are {known}")
    if given is not None and args is not None:
        raise ValueError("give --input or --args, not both")
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise ValueError("--args is a JSON list, --kwargs a JSON object")
    positional = [given] if given is not None else args or []
    when = None if start_at is None else _aware(datetime.fromisoformat(start_at))
    run = durable.start(task.s(*positional, **(kwargs or {})), start_at=when, **options)
    if wait:
        tell(run.id)
        print_result(run, timeout)
    else:
        give(run.id)


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


@click.command()
@instance_id
@click.argument("name")
@click.option("--data", type=JSON, help="The payload, as JSON, @file or -.")
@click.option("--event-id", help="Deduplicates.")
@command
def event(durable: Any, instance_id: str, name: str, data: Any, event_id: str | None) -> None:
    """Raise the external event NAME on one orchestration."""
    durable.raise_event(instance_id, name, data, event_id)


def _verb(name: str, text: str, **own: Any) -> click.Command:
    """Return the command of a verb, for ids or for all that match filters."""

    @click.argument("ids", type=ID, nargs=-1, metavar="[ID...]")
    @filters
    @click.option("--limit", type=click.IntRange(1), help="At most so many, newest first.")
    @click.option("--dry-run", is_flag=True, help="Say how many it would be, and do nothing.")
    @click.option("--yes", is_flag=True, help="Do not ask before a verb for many.")
    @command
    def run(durable: Any, ids: tuple[str, ...], limit: int | None, dry_run: bool, yes: bool, **options: Any) -> None:
        given = {key: options.pop(key) for key in list(options) if key in ("reason", *own)}
        verb, chosen = getattr(durable, name), chosen_filters(**options)
        if ids and chosen:
            raise ValueError("give ids or filters, not both")
        if ids:
            if dry_run:
                for id_ in ids:
                    _foresee(durable.get(id_), name)
                return
            _to_each(ids, partial(verb, **given))
            return
        if not chosen:
            raise ValueError("give ids, or at least one filter such as --status")
        acting = [status for status in statuses_of(name) if status in chosen.get("status", RuntimeStatus)]
        number = durable.count(**(chosen | {"status": acting})) if acting else 0
        number = number if limit is None else min(number, limit)
        if dry_run:
            click.echo(f"{number} would be taken")
            return
        if number and not yes:
            click.confirm(f"{name} {number} orchestrations?", abort=True, err=True)
        done = verb(**given, **chosen, **({} if limit is None else {"limit": limit}))
        click.echo(f"{done.done} of {done.matched} done")
        for id_, error in done.refused.items():
            tell(f"{id_}: {error}")
        if done.refused:
            leave(NOT_POSSIBLE)

    for option in own.values():
        run = option(run)
    return click.command(name, help=text)(run if name in WITHOUT_REASON else reason(run))


def _foresee(run: Any, verb: str) -> None:
    """Say whether a verb would take an orchestration, and what a rewind would do."""
    acts = run.runtime_status in statuses_of(verb)
    say(f"{visible(run.id)} {styled(run.runtime_status)}{'' if acts else ', would not be taken'}")
    if acts and verb == "rewind":
        say_lines(str(run.rewind(dry_run=True)))


def _to_each(ids: tuple[str, ...], verb: Callable[[str], Any]) -> None:
    """Apply a verb to every id; the refusals are told, and the last of them gives the exit code."""
    refused: list[DurableError] = []
    for id_ in ids:
        try:
            verb(id_)
        except (InstanceNotFound, InvalidState) as error:
            refused.append(error)
    for earlier in refused[:-1]:
        tell(str(earlier))
    if refused:
        raise refused[-1]


_RECURSIVE = click.option("--recursive/--alone", default=True, help="With its sub-orchestrations, or without.")
VERBS: list[click.Command] = [
    _verb("suspend", "Take no more turns until they are resumed."),
    _verb("resume", "Go on after a suspension."),
    _verb("cancel", "Ask to cancel: compensation may run."),
    _verb("terminate", "End at once.", recursive=_RECURSIVE),
    _verb("rewind", "Run again what failed, and keep what succeeded."),
    _verb("restart", "Start finished ones once more, in their own place."),
    _verb("purge", "Delete finished ones with their history.", recursive=_RECURSIVE),
]
