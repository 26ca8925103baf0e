"""How an orchestrator reaches entities: calls, signals, and locks; the other side is in ``entity``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import DurableError
from .commands import SendEvent
from .entity import MESSAGE, Declaration, orchestrator_of, parts_of_id
from .retry import Interval, in_microseconds

if TYPE_CHECKING:
    from .replay import Execution

__all__ = ["EntityLock", "EntityReference", "Signals", "bound_operation", "due_of", "is_entity", "operation_message"]

LOCKED, UNLOCKED = "locked", "unlocked"


def is_entity(reference: Any) -> bool:
    """Tell whether this is a reference that ``ctx.entity`` gave."""
    return type(reference) is EntityReference


def bound_operation(
    declaration: Declaration | None, name: str, send: Callable[[dict[str, Any]], Any]
) -> Callable[..., Any]:
    """Return a function that makes a message of its arguments and sends it.

    Raises:
        AttributeError: there is no such operation, as far as is known here.
    """
    if name.startswith("_"):
        raise AttributeError(f"{name!r} is private: an operation of an entity is a public method")
    if declaration is not None:
        declaration.check(name)

    def operation(*args: Any, **kwargs: Any) -> Any:
        if declaration is not None:
            declaration.check_arguments(name, args, kwargs)
        return send(operation_message(name, args, kwargs))

    operation.__name__ = operation.__qualname__ = name
    return operation


def operation_message(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message that asks for an operation."""
    message: dict[str, Any] = {"op": name}
    if args:
        message["args"] = list(args)
    if kwargs:
        message["kwargs"] = dict(kwargs)
    return message


def due_of(delay: Interval | None, at: datetime | None, now: int) -> int | None:
    """Return when a signal is due, in microseconds since the epoch; None is now.

    Raises:
        ValueError: both are given, the delay is negative, or the time is naive.
        TypeError: they are of another type.
    """
    from .context import as_microseconds

    if delay is not None and at is not None:
        raise ValueError("a signal takes delay= or at=, not both")
    if at is not None:
        return as_microseconds(at)
    if delay is None or not (micros := in_microseconds(delay, "delay")):
        return None
    return now + micros


class EntityReference:
    """An entity, as an orchestrator sees it: its operations are methods that give awaitables; see ``ctx.entity``."""

    def __init__(self, execution: Execution, id_: str, declaration: Declaration | None) -> None:
        self._execution = execution
        self._declaration = declaration
        self.id = id_

    def __repr__(self) -> str:
        return f"<entity {self.id}>"

    @property
    def signal(self) -> Signals:
        """Its operations, one-way: ``.signal.add(5)``, or later ``.signal(delay=60).add(5)``, ``.signal(at=when).add(5)``."""
        return Signals(self)

    def __getattr__(self, name: str) -> Callable[..., asyncio.Future[Any]]:
        return bound_operation(self._declaration, name, self._call)

    def _call(self, message: dict[str, Any]) -> asyncio.Future[Any]:
        execution, lock = self._execution, self._execution.lock
        held = lock.grant_of(self.id) if lock is not None else {}
        if lock is not None and not held:
            raise DurableError(
                f"orchestration {execution.facts.instance_id!r} calls {self.id}.{message['op']}() inside a ctx.lock() block that "
                "does not hold that entity: two such orchestrations could wait for each other. Name it in ctx.lock(...), or use "
                ".signal", instance_id=execution.facts.instance_id, entity_id=self.id,
            )  # fmt: skip
        return _ask(execution, self.id, {**message, **held})

    def _signal(self, message: dict[str, Any], due: int | None) -> asyncio.Future[None]:
        execution, lock = self._execution, self._execution.lock
        held = lock.grant_of(self.id) if lock is not None and due is None else {}
        _send(execution, execution.next_command(), self.id, {**message, **held}, due=due)
        return execution.done_future(None)


class Signals:
    """The operations of an entity, one-way; see ``EntityReference.signal``."""

    def __init__(self, reference: EntityReference, delay: Interval | None = None, at: datetime | None = None) -> None:
        self._reference = reference
        self._due = due_of(delay, at, reference._execution.now)

    def __call__(self, *, delay: Interval | None = None, at: datetime | None = None) -> Signals:
        """Return the same, for later.

        Args:
            delay: seconds or ``timedelta`` from now.
            at: an aware ``datetime``; one in the past is now.

        Raises:
            ValueError: both are given, the delay is negative, or the time is naive.
        """
        return Signals(self._reference, delay, at)

    def __getattr__(self, name: str) -> Callable[..., asyncio.Future[None]]:
        reference, due = self._reference, self._due
        return bound_operation(reference._declaration, name, lambda message: reference._signal(message, due))


class EntityLock:
    """``async with ctx.lock(...)``; see ``OrchestrationContext.lock``.

    An orchestrator that is a generator says ``lock = ctx.lock(...)``, ``yield lock.acquire()`` and, in a ``finally``,
    ``lock.release()``.
    """

    def __init__(self, execution: Execution, entities: Sequence[EntityReference], lease: int | None) -> None:
        if not entities:
            raise ValueError("ctx.lock() takes at least one entity")
        if odd := [each for each in entities if not is_entity(each)]:
            raise TypeError(f"ctx.lock() takes what ctx.entity(...) gives, not {odd[0]!r}")
        self._execution = execution
        self._ids = sorted({each.id for each in entities})
        self._lease = lease
        self._wishes: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    @property
    def commands(self) -> set[int]:
        """The command numbers by which the entities were asked for."""
        return {int(wish.rpartition(":")[2]) for wish in self._wishes.values()}

    @property
    def numbers(self) -> Mapping[str, int]:
        """The fencing numbers by entity id: each grant of an entity has a higher one than those before it."""
        return dict(self._numbers)

    def grant_of(self, entity_id: str) -> dict[str, Any]:
        """Return what an operation shows to be let in; nothing if the entity is not held."""
        if entity_id not in self._numbers:
            return {}
        return {"held": self._wishes[entity_id], "number": self._numbers[entity_id]}

    def acquire(self) -> asyncio.Future[EntityLock]:
        """Take the locks; for orchestrators that are generators.

        Raises:
            DurableError: the orchestration is inside such a block already.
        """
        self._enter()
        return self._execution.loop.create_task(self._acquire())

    def release(self) -> None:
        """Give everything back that is held or asked for; without effect after that."""
        execution = self._execution
        if execution.lock is not self:
            return
        execution.lock = None
        execution.open_blocks -= 1
        for entity_id, wish in reversed(self._wishes.items()):
            _send(execution, execution.next_command(), entity_id, {"unlock": wish}, note={UNLOCKED: wish})
        self._wishes.clear()
        self._numbers.clear()

    def _enter(self) -> None:
        execution = self._execution
        if execution.lock is not None:
            raise DurableError(
                f"orchestration {execution.facts.instance_id!r} is inside a ctx.lock() block already: two such orchestrations "
                "could wait for each other. Name all entities in one ctx.lock(...)", instance_id=execution.facts.instance_id,
            )  # fmt: skip
        execution.lock = self
        execution.open_blocks += 1

    async def _acquire(self) -> EntityLock:
        try:
            for entity_id in self._ids:
                await self._acquire_one(entity_id)
        except BaseException:
            self.release()
            raise
        return self

    async def _acquire_one(self, entity_id: str) -> None:
        execution = self._execution
        command = execution.next_command()
        wish = self._wishes[entity_id] = f"{execution.facts.execution_id}:{command}"
        message: dict[str, Any] = {"lock": wish}
        if self._lease is not None:
            message["lease"] = self._lease
        number = await _ask(execution, entity_id, message, command=command, note={LOCKED: wish})
        self._numbers[entity_id] = number

    async def __aenter__(self) -> EntityLock:
        self._enter()
        return await self._acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _ask(
    execution: Execution,
    entity_id: str,
    message: dict[str, Any],
    *,
    command: int | None = None,
    note: Mapping[str, Any] | None = None,
) -> asyncio.Future[Any]:
    """Send a message and return the future of its answer."""
    number = execution.next_command() if command is None else command
    is_lock = "lock" in message

    def ask() -> str:
        name = execution.reply_name(number, is_lock=is_lock)
        whole = {**message, "reply": [execution.facts.instance_id, name]}
        _send(execution, number, entity_id, whole, note=note)
        return name

    what = "the lock of" if is_lock else f"{message['op']}() of"
    return execution.expect_reply(number, f"{what} entity {entity_id!r}", ask)


def _send(
    execution: Execution,
    command: int,
    entity_id: str,
    message: dict[str, Any],
    *,
    due: int | None = None,
    note: Mapping[str, Any] | None = None,
) -> None:
    payload = execution.codec.encode(message)
    parts = parts_of_id(entity_id)
    creates = None if parts is None or "unlock" in message else orchestrator_of(parts[0])
    execution.ask(SendEvent(command, entity_id, MESSAGE, payload, due=due, creates=creates, note=note))
