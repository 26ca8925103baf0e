"""Switches: pauses, and ramps of versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..inspection.views import pause_view
from .entry import command
from .output import formatted, report, show_lines, show_rows

__all__ = ["pause", "pauses", "ramp", "unpause"]

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--task", metavar="NAME", help="Of this task, or of all that match a pattern."),
    click.option("--queue", metavar="NAME", help="In this queue: activities and turns."),
    click.option("--orchestrator", metavar="NAME", help="Of this orchestrator."),
)


def _target(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _only(task: str | None, queue: str | None, orchestrator: str | None) -> dict[str, str]:
    given = {"task": task, "queue": queue, "orchestrator": orchestrator}
    chosen = {kind: name for kind, name in given.items() if name is not None}
    if len(chosen) != 1:
        raise click.UsageError("give exactly one of --task, --queue and --orchestrator")
    return chosen


@click.command()
@_target
@click.option("--reason", help="Shown while it is paused.")
@command
def pause(
    durable: Any, task: str | None, queue: str | None, orchestrator: str | None, reason: str | None
) -> None:
    """Let nothing begin of a task, in a queue or of an orchestrator, until it is unpaused."""
    made = durable.pause(**_only(task, queue, orchestrator), reason=reason)
    report(f"{made.kind} {made.name}: paused")


@click.command()
@_target
@command
def unpause(durable: Any, task: str | None, queue: str | None, orchestrator: str | None) -> None:
    """Let go of what a pause holds: the same name or pattern as that."""
    chosen = _only(task, queue, orchestrator)
    ((kind, name),) = chosen.items()
    if durable.unpause(**chosen):
        report(f"{kind} {name}: unpaused")
    else:
        show_lines(f"{kind} {name} is not paused; celery durable pauses lists what is")


@click.command()
@formatted(has_ids=False)
@command
def pauses(durable: Any, form: str | None) -> None:
    """List what is paused: since when, why, and how much it holds."""
    rows = [pause_view(each) for each in durable.pauses()]
    show_rows(rows, ("kind", "name", "since", "until", "reason", "held"), form, key="name")


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.option("--share", type=float, default=1.0, help="Of the new starts, 0 to 1.")
@click.option("--remove", is_flag=True, help="Starts get the newest version again.")
@command
def ramp(durable: Any, name: str, version: str | None, share: float, remove: bool) -> None:
    """Let a share of the new starts of the orchestrator NAME have VERSION."""
    if (version is None) is not remove:
        raise click.UsageError("give either VERSION or --remove")
    durable.ramp(name, version, share=share)
    report(
        f"{name}: new starts get the newest version"
        if version is None
        else f"{name}: version {version} gets a share of {share:g} of new starts"
    )
