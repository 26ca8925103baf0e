"""``celery -A app durable ...``: the command group, which Celery finds by its entry point.

Loaded with every ``celery`` command, so nothing but click is imported before one of its own
commands runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

__all__ = ["durable"]


class _LazyGroup(click.Group):
    """A group whose commands are imported when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = _commands().get(cmd_name)
        return command if isinstance(command, click.Command) else None


def _commands() -> dict[str, Any]:
    found: dict[str, Any] = import_module(f"{__name__}.commands").commands()
    return found


@click.group("durable", cls=_LazyGroup)
@click.pass_context
def durable(ctx: click.Context, /, **_: Any) -> None:
    """Durable orchestrations: start, look, steer, repair.

    Exit codes: 0 done, 1 unexpected, 2 wrong usage, 3 not found, 4 not possible in this status,
    5 the orchestration or the check failed, 6 timed out, 69 the store cannot be reached,
    78 configuration or schema.
    """
