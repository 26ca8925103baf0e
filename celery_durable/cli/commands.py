"""The table of commands, in the order in which ``--help`` lists them."""

from __future__ import annotations

import click

from .declared import entities, orchestrators, schedules
from .exporter import exporter
from .installation import check, doctor, migrate
from .looking import count, explain, history, list_, result, show, wait
from .repairing import export, fork, override, replay, verify
from .steering import VERBS, event, start
from .watching import watch

__all__ = ["COMMANDS"]

COMMANDS: dict[str, click.Command] = {
    each.name or "": each
    for each in (
        start, list_, count, show, history, watch, wait, result, explain, event, *VERBS, fork, override, export, replay,
        verify, orchestrators, schedules, entities, migrate, check, doctor, exporter,
    )
}  # fmt: skip
