"""Code that changes: export, replay, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..core.entity import ORCHESTRATORS
from .entry import FAILED, command, leave
from .output import show_lines
from .parameters import instance_id

__all__ = ["export", "lint", "replay", "verify"]


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
@click.argument("names", nargs=-1, metavar="[NAME]...")
@command
def lint(durable: Any, names: tuple[str, ...]) -> None:
    """Read the code of orchestrators for what a replay may do otherwise: clocks, random numbers,
    I/O, threads, the order of sets; exit code 5 if there is any.
    """
    from ..inspection.lint import lint as read

    registry = durable.registry
    if unknown := [name for name in names if name not in registry]:
        raise ValueError(
            f"this process has no orchestrator {unknown[0]!r}; it has {', '.join(registry.names())}"
        )
    chosen = names or [name for name in registry.names() if is_of_an_application(name)]
    found = [
        each
        for name in chosen
        for version in registry.versions(name)
        for each in read(name, registry.get(name, version).function)
    ]
    for each in sorted(set(found)):
        show_lines(str(each))
    if found:
        leave(FAILED)
    show_lines(f"{len(chosen)} orchestrators do nothing that was found to differ in a replay")


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


def is_of_an_application(name: str) -> bool:
    """Tell whether an orchestrator is not one of this package's own."""
    return not name.startswith((ORCHESTRATORS, "celery_durable."))
