"""Limits: how far they are used."""

from __future__ import annotations

from typing import Any

import click

from ..inspection.views import limit_view
from .entry import command
from .output import formatted, show_rows

__all__ = ["limits"]


@click.command()
@formatted(has_ids=False)
@command
def limits(durable: Any, form: str | None) -> None:
    """List the limits of which slots are taken or waited for, of tasks and of orchestrators."""
    rows = [limit_view(each) for each in durable.limits()]
    show_rows(rows, ("of", "name", "key", "per", "most", "taken", "waiting"), form, key="name")
