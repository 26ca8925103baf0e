"""Which calls wake the orchestrator together.

``pending_joins`` reads the wait off the suspended tasks: where the code waits for *all* of a batch
of activities, one wake at the end is enough. It must never claim that wrongly: what is not
recognised wakes on every completion, which is always correct. Failed attempts, timers, events and
children wake always.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from .decision import Decision
from .futures import AllFuture, CallFuture, MapFuture
from .history import Event, EventKind
from .tasks import ReplayTask

__all__ = ["Joins", "pending_joins"]


class Joins:
    """The batches that an execution waits for, turn by turn; each is named by its lowest number."""

    __slots__ = ("_members", "_was_joined")

    def __init__(self) -> None:
        #: Activity -> its batch, as history records it.
        self._members: dict[int, int] = {}
        #: Whether the last turn gave up a batch, so that the store may have a row of it.
        self._was_joined = False

    def __bool__(self) -> bool:
        return bool(self._members or self._was_joined)

    def note(self, event: Event) -> None:
        """Take over what history says of a batch."""
        members = (event.facts or {})["members"]
        if event.kind is EventKind.JOIN_FORMED:
            self._members.update(dict.fromkeys(members, event.command))
        else:
            for member in members:
                self._members.pop(member, None)

    def clear(self) -> None:
        """Forget all batches: everything is asked for again."""
        self._members = {}

    def conclude(
        self, decision: Decision, tasks: Iterable[ReplayTask], open_calls: Container[int], now: int
    ) -> None:
        """Note in a turn's decision which batches are waited for now, and what of it is new.

        Args:
            decision: what the turn decided so far.
            tasks: the suspended tasks; none if the execution has ended.
            open_calls: the numbers of the calls that are not resolved.
            now: the time of the turn's last event.
        """
        before = self._members
        wanted = {call: join for call, join in pending_joins(tasks).items() if call in open_calls}
        changes: dict[int, int | None] = {c: j for c, j in wanted.items() if before.get(c) != j}
        changes.update({c: None for c in before if c not in wanted and c in open_calls})
        for join in dict.fromkeys(j for j in changes.values() if j is not None):
            members = [c for c, j in changes.items() if j == join]
            decision.events.append(
                Event(EventKind.JOIN_FORMED, now, join, facts={"members": members})
            )
        if dissolved := [c for c in before if c not in wanted]:
            decision.events.append(
                Event(EventKind.JOIN_DISSOLVED, now, facts={"members": dissolved})
            )
        decision.join_changes, decision.joins = changes, wanted
        decision.joins_formed = set(wanted.values()) - set(before.values())
        decision.joins_ended = set(before.values()) - set(wanted.values())
        self._was_joined = bool(decision.joins_ended)
        self._members = dict(wanted)


def pending_joins(tasks: Iterable[ReplayTask]) -> dict[int, int]:
    """Return command -> join (the lowest command of its batch) for activities that need not wake
    one by one.
    """
    joins: dict[int, int] = {}
    for task in tasks:
        members = _waits_for_all(_waiter_of(task))
        if members is None or not all(_is_sole(member) for member in members):
            continue
        if len(members) > 1:
            join = min(member.command for member in members)
            joins.update({member.command: join for member in members if not member.done()})
    return joins


# Private attributes of asyncio are read in these three functions only; on any surprise: no join.


def _waiter_of(task: ReplayTask) -> Any:
    return getattr(task, "_fut_waiter", None)


def _waits_for_all(waiter: Any) -> list[CallFuture] | None:
    if isinstance(waiter, AllFuture) or (isinstance(waiter, MapFuture) and waiter.waits_for_all):
        members: Any = waiter.members
    elif type(waiter).__name__ == "_GatheringFuture":
        members = getattr(waiter, "_children", None)
    else:
        return None
    if not members or not all(
        isinstance(member, CallFuture) and member.is_activity for member in members
    ):
        return None
    return list(members)


def _is_sole(member: CallFuture) -> bool:
    if member.done():
        return True
    callbacks = getattr(member, "_callbacks", None)
    return callbacks is not None and len(callbacks) == 1
