"""The audit trail: who did what, over which door, with what effect.

A door (the command line, the admin, Flower, HTTP, ``durable.actor`` in code) says who acts, by
``acting``. A verb that is called then carries an ``Entry``, and the transaction by which it changes
something writes that too: there is no change without its entry, and no entry of a change that was
rolled back. What changes nothing, or is refused, is noted by itself. Where no actor is set, a verb
costs one look at a context variable.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from .cursor import Cursor

__all__ = [
    "DONE",
    "NOTHING",
    "REFUSED",
    "also",
    "HIDDEN",
    "INSTANCE",
    "SCHEDULE",
    "Actor",
    "AuditFilters",
    "AuditRow",
    "AuditRows",
    "Entry",
    "acting",
    "actor",
    "pending",
    "settled",
    "text_of_arguments",
    "written_as",
]

#: Stands for a payload: the trail holds none, and outlives them.
HIDDEN = "(hidden)"
#: What an entry is about, beside the kinds of switches.
INSTANCE, SCHEDULE = "orchestration", "schedule"
#: What became of a verb.
DONE, NOTHING, REFUSED = "done", "nothing", "refused"
_LONGEST_NAME = 200


class Actor(NamedTuple):
    """Who acts."""

    #: None where the door does not know.
    name: str | None
    #: "cli", "admin", "flower", "http" or "code".
    door: str
    #: Why, as the door was told it; None leaves that to the verb.
    reason: str | None = None


@dataclass(slots=True)
class Entry:
    """What a verb leaves."""

    #: What it is about: an orchestration, a schedule, or the kind of a switch.
    kind: str
    #: Its id or name; None until a start has one.
    target: str | None
    verb: str
    actor: Actor
    reason: str | None = None
    #: As JSON; payloads are hidden.
    arguments: str | None = None
    #: The id of the orchestration that the verb made, if it made another one.
    made: str | None = None
    effect: str = DONE
    #: Why it was refused.
    error: str | None = None
    #: Tells it from every other; a repeated transaction writes it once.
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    #: Whether a transaction has written it; another one need not, but may.
    is_written: bool = False


class AuditRow(NamedTuple):
    """One row of the table."""

    id: str
    #: Microseconds since the epoch, by the store's clock.
    at: int
    kind: str
    target: str | None
    verb: str
    actor: str | None
    door: str
    reason: str | None
    arguments: str | None
    effect: str
    error: str | None
    made: str | None


@dataclass(frozen=True)
class AuditFilters:
    """Which entries are wanted; what is None does not choose."""

    #: Of entries about it, and of those by which it was made.
    target: str | None = None
    kind: str | None = None
    actor: str | None = None
    door: str | None = None
    verb: str | None = None
    #: Microseconds, the first included, the second not.
    since: int | None = None
    until: int | None = None


class AuditRows(Protocol):
    """The trail in the store."""

    def insert(self, entry: Entry) -> None:
        """Write an entry by itself, unless it is there."""

    def insert_within(self, cursor: Cursor, entry: Entry) -> None:
        """Do the same on a cursor inside a caller's transaction."""

    def read(
        self, filters: AuditFilters, limit: int, cursor: str | None
    ) -> tuple[list[AuditRow], str | None]:
        """Return a page, newest first, and the cursor of the next one.

        Raises:
            ValueError: the cursor is none that this gave.
        """

    def drop_old(self, kept_for: int) -> bool:
        """Delete entries older than so many microseconds; True if there may be more of them."""


# -- who acts --------------------------------------------------------------------------------------

_actor: ContextVar[Actor | None] = ContextVar("durable_actor", default=None)
_entry: ContextVar[Entry | None] = ContextVar("durable_audit_entry", default=None)


def actor() -> Actor | None:
    """Return who acts here; None where nothing is audited."""
    return _actor.get()


def pending() -> Entry | None:
    """Return what the next change of this verb is to write beside itself."""
    return _entry.get()


@contextmanager
def acting(name: str | None, door: str, reason: str | None = None) -> Iterator[None]:
    """Say who acts within the block, over which door, and why."""
    token = _actor.set(Actor(None if name is None else name[:_LONGEST_NAME], door, reason))
    try:
        yield
    finally:
        _actor.reset(token)


@contextmanager
def settled() -> Iterator[None]:
    """Let nothing within the block write the entry of the verb around it: what follows from a
    change is none of the actor's.
    """
    token = _entry.set(None)
    try:
        yield
    finally:
        _entry.reset(token)


@contextmanager
def also(target: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Give what the verb does to another target within the block an entry of its own."""
    if (outer := _entry.get()) is None:
        yield
        return
    entry = Entry(
        outer.kind, target, outer.verb, outer.actor, outer.reason, text_of_arguments(arguments)
    )
    token = _entry.set(entry)
    try:
        yield
    finally:
        _entry.reset(token)


@contextmanager
def written_as(entry: Entry) -> Iterator[None]:
    """Let the next change within the block write an entry beside itself; what it sets in motion in
    this process is not the actor's doing.
    """
    tokens = _actor.set(None), _entry.set(entry)
    try:
        yield
    finally:
        _actor.reset(tokens[0])
        _entry.reset(tokens[1])


def text_of_arguments(arguments: Mapping[str, Any]) -> str | None:
    """Return the arguments of a verb as an entry keeps them; those that are None are left out."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return json.dumps(given, default=str) if given else None
