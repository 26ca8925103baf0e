"""Repair, and code that changes: fork, override, export, replay, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .entry import FAILED, command, leave
from .output import give, say_lines
from .parameters import JSON, instance_id, reason

__all__ = ["export", "fork", "override", "replay", "verify"]


@click.command()
@instance_id
@click.option("--at", type=int, required=True, help="The number of the last event to keep; see history.")
@click.option("--id", "new_id", help="Of the new one.")
@reason
@command
def fork(durable: Any, instance_id: str, at: int, new_id: str | None, reason: str | None) -> None:
    """Start another orchestration from a point in the history of this one, and print its id."""
    give(durable.get(instance_id).fork(at, new_id, reason).id)


@click.command()
@instance_id
@click.argument("call", type=int)
@click.option("--result", "given", type=JSON, default=None, help="What it returns, as JSON; null if left out.")
@click.option("--error", help="The text of an error that it raises, instead.")
@click.option("--dry-run", is_flag=True, help="Say what the orchestrator would do next, and do nothing.")
@reason
@command
def override(
    durable: Any, instance_id: str, call: int, given: Any, error: str | None, dry_run: bool, reason: str | None
) -> None:
    """Give the call CALL (its command number) of one orchestration its outcome by hand."""
    problem = None if error is None else RuntimeError(error)
    told = durable.get(instance_id).override(call, given, error=problem, reason=reason, dry_run=dry_run)
    if told is not None:
        say_lines(str(told))


@click.command()
@instance_id
@command
def export(durable: Any, instance_id: str) -> None:
    """Print the history of one orchestration as a JSON document for replay."""
    click.echo(durable.get(instance_id).export_history())


@click.command()
@click.argument("files", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True)
@click.option("--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too.")
@command
def replay(durable: Any, files: tuple[Path, ...], check_arguments: bool) -> None:
    """Replay exported histories on the code of this process; exit code 5 if one does not fit."""
    found = durable.verify([file.read_text() for file in files], check_arguments=check_arguments)
    say_lines(str(found))
    if not found.is_ok:
        leave(FAILED)


@click.command()
@click.option("--name")
@click.option("--version")
@click.option("--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too.")
@command
def verify(durable: Any, name: str | None, version: str | None, check_arguments: bool) -> None:
    """Replay every orchestration that is not over on the code of this process: the gate of a deployment."""
    filters = {key: value for key, value in (("name", name), ("version", version)) if value is not None}
    found = durable.verify(live=True, check_arguments=check_arguments, **filters)
    say_lines(str(found))
    if not found.is_ok:
        leave(FAILED)
