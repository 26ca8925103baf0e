"""The table of verbs (internal): everything that offers verbs is made from ``VERBS``.

A verb is a row beside its function, in the module of its group; ``engine.verb`` explains the
columns, ``engine.control`` has what the functions share. docs/internals/adding-a-command.md says
what else a new one needs.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..verb import Surface, Verb
from . import events, finished, interventions, rewinding, steering

__all__ = ["VERBS", "offered_in"]

#: By their names, in the order in which they are offered.
VERBS: dict[str, Verb] = {
    row.name: row
    for group in (events, steering, rewinding, finished, interventions)
    for row in group.ROWS
}


def offered_in(surface: Surface) -> Iterator[Verb]:
    """Yield the verbs that a surface offers."""
    return (verb for verb in list(VERBS.values()) if surface in verb.offered_in)
