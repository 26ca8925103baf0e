"""What entities were asked by this execution, and their answers. How a message is made and sent is
in ``references``; it travels as an event (``external_event``), and so does the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..entity_names import REPLY
from ..history import Event
from ..ports import Host
from .kind import Kind, Reissue, failure_of

__all__ = ["EntityCalls", "HeldLock"]


class HeldLock(Protocol):
    """The lock block that the code is in (``references.EntityLock``)."""

    @property
    def commands(self) -> set[int]:
        """The command numbers by which the entities were asked for."""

    def grant_of(self, entity_id: str) -> dict[str, Any]:
        """Return what an operation shows to be admitted; nothing if the entity is not held."""

    def release(self) -> None:
        """Give everything back that is held or asked for."""


@dataclass(slots=True)
class _Question:
    """Something that an entity was asked."""

    answer: asyncio.Future[Any]
    #: In words, for people.
    what: str
    #: Asks it, and asks it again, as which one under its number; returns the name of the answer.
    send: Callable[[int], str]
    is_lock: bool
    #: Which one under its number was asked last: the count of rewinds then, or 0.
    again: int = 0


class EntityCalls(Kind):
    """The questions that entities have not answered, and the lock that the code holds."""

    name = "entity call"

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        #: The block of ``ctx.lock`` that the code is in; None outside.
        self.lock: HeldLock | None = None
        #: By number: what was asked, and what the event is called that answers it.
        self._questions: dict[int, _Question] = {}
        self._names: dict[int, str] = {}

    @property
    def unanswered(self) -> set[int]:
        """The numbers of what was asked and has not been answered."""
        return {
            number for number, question in self._questions.items() if not question.answer.done()
        }

    @property
    def awaited(self) -> list[str]:
        """What has not been answered, in words."""
        return [each.what for each in self._questions.values() if not each.answer.done()]

    def waits_for(self) -> list[str]:
        """Return the answers that the code waits for now, in words."""
        return self.awaited

    def reply_name(self, number: int, again: int) -> str:
        """Return the name of the one event that answers this command, asked as which number
        of it.
        """
        return f"{REPLY}{self.host.info.execution_id}:{f'{again}:' if again else ''}{number}"

    def expect(
        self, number: int, what: str, ask: Callable[[int], str], *, is_lock: bool = False
    ) -> asyncio.Future[Any]:
        """Ask an entity something, and return a future of its answer; ``what`` is for people."""
        question = _Question(self.host.loop.create_future(), what, ask, is_lock)
        self._questions[number] = question
        self._ask(number, is_new=is_lock)
        return question.answer

    def _ask(self, number: int, *, is_new: bool) -> None:
        """Ask, or ask again: the same, or by another name, so that no answer to what was asked
        before is taken for its own.

        Another one is the request for a lock that a failure gave back, and what was not asked
        before the rewind.
        """
        question = self._questions[number]
        if is_new:
            question.again = self.host.renewals
        self._names[number] = question.send(question.again)

    def prepare(self, event: Event) -> Event:
        """Say which command the answer is for, and whether a failure in it can be rebuilt."""
        codec = self.host.codec
        event = event._replace(command=self._answered(event.name))
        if not (failure := _failure_in(codec.decode(event.payload or "null"))):
            return event
        _, is_rebuilt = codec.decode_failure(failure)
        return event._replace(facts={**(event.facts or {}), "rebuilt": is_rebuilt})

    def _answered(self, name: str) -> int:
        """Return which call of this very execution an event answers; 0 for none."""
        number = name.rpartition(":")[2]
        is_ours = len(number) < 10 and number.isdecimal() and name == self._names.get(int(number))
        return int(number) if is_ours else 0

    def answer(self, event: Event, value: Any) -> None:
        """Give an answer of an entity to the call that waits for it; no other call ever will."""
        question = self._questions.pop(event.command, None)
        self._names.pop(event.command, None)
        if question is None or question.answer.done():
            return
        if failure := _failure_in(value):
            error = failure_of(self.host, event, failure)
            self.host.note_failure(event.command, error)
            question.answer.set_exception(error)
        else:
            question.answer.set_result(value.get("result") if isinstance(value, dict) else None)

    # -- what the machine asks ---------------------------------------------------------------------

    def is_waiting(self) -> bool:
        """Tell whether an answer is missing."""
        return any(not question.answer.done() for question in self._questions.values())

    def reissue(self, plan: Reissue) -> None:
        """Ask again for the answers that are missing."""
        fresh = plan.numbers("fresh")
        for number, question in sorted(self._questions.items(), key=lambda item: item[0]):
            if not question.answer.done():
                self._ask(number, is_new=question.is_lock or number in fresh)


def _failure_in(reply: Any) -> str:
    """Return the failure in an entity's answer, or nothing."""
    failure = reply.get("failure") if isinstance(reply, dict) else None
    return failure if isinstance(failure, str) else ""
