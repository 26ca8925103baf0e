"""The commands, in the order in which ``--help`` lists them.

Those of verbs are made from their table.
"""

from __future__ import annotations

import click

from .adopting import adopt
from .asking import ask, query
from .audit import audit
from .changing import export, lint, replay, verify
from .completing import complete, fail
from .contracts import schema
from .debugging import debug
from .declared import entities, orchestrators, schedules
from .exporter import exporter
from .installation import check, doctor, migrate
from .limiting import limits
from .payloads import payloads, reencrypt
from .reading import count, explain, history, list_, result, show, wait
from .starting import start
from .switching import pause, pauses, ramp, unpause
from .tagging import tag
from .verbs import verb_commands
from .watching import watch

__all__ = ["commands"]

_BEFORE_VERBS = (start, list_, count, show, history, watch, wait, result, explain, ask, query)
_AFTER_VERBS = (
    tag,
    complete,
    fail,
    export,
    replay,
    verify,
    debug,
    lint,
    schema,
    orchestrators,
    schedules,
    entities,
    pause,
    unpause,
    pauses,
    limits,
    ramp,
    audit,
    migrate,
    reencrypt,
    payloads,
    check,
    doctor,
    adopt,
    exporter,
)


def commands() -> dict[str, click.Command]:
    """Return the commands by their names."""
    return {each.name or "": each for each in (*_BEFORE_VERBS, *verb_commands(), *_AFTER_VERBS)}
