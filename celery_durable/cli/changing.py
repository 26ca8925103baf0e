"""Code that changes: export, replay, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .entry import FAILED, command, leave
from .output import show_lines
from .parameters import instance_id

__all__ = ["export", "replay", "verify"]


@click.command()
@instance_id
@command
def export(durable: Any, instance_id: str) -> None:
    """Print the history of one orchestration as a JSON document for replay."""
    click.echo(durable.get(instance_id).export_history())


@click.command()
@click.argument(
    "files", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True
)
@click.option(
    "--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too."
)
@command
def replay(durable: Any, files: tuple[Path, ...], check_arguments: bool) -> None:
    """Replay exported histories on the code of this process; exit code 5 if one does not fit."""
    found = durable.verify([file.read_text() for file in files], check_arguments=check_arguments)
    show_lines(str(found))
    if not found.is_ok:
        leave(FAILED)


@click.command()
@click.option("--name")
@click.option("--version")
@click.option(
    "--check-arguments", is_flag=True, help="Other arguments of a call are a disagreement too."
)
@command
def verify(durable: Any, name: str | None, version: str | None, check_arguments: bool) -> None:
    """Replay every orchestration that is not over on the code of this process: the gate of a
    deployment.
    """
    filters = {
        key: value for key, value in (("name", name), ("version", version)) if value is not None
    }
    found = durable.verify(live=True, check_arguments=check_arguments, **filters)
    show_lines(str(found))
    if not found.is_ok:
        leave(FAILED)
