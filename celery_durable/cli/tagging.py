"""Tags of an orchestration, set from outside."""

from __future__ import annotations

from typing import Any

import click

from .entry import command
from .output import report
from .parameters import instance_id, tags

__all__ = ["tag"]


@click.command()
@instance_id
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...", callback=tags)
@click.option("--remove", multiple=True, metavar="NAME", help="May be given more than once.")
@command
def tag(durable: Any, instance_id: str, pairs: dict[str, str], remove: tuple[str, ...]) -> None:
    """Set tags of one orchestration, and remove others; those that are not named stay."""
    if not pairs and not remove:
        raise ValueError("give NAME=VALUE, or --remove NAME")
    durable.set_tags(instance_id, pairs, remove=remove)
    found = durable.get(instance_id).tags
    shown = ", ".join(f"{name}={value}" for name, value in sorted(found.items()))
    report(f"{instance_id}: {shown or 'no tags'}")
