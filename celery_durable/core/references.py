"""How an orchestrator reaches entities: calls, signals, and locks.

The other side is in ``entity``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from .._errors import DurableError
from .entity import Declaration
from .entity_names import MESSAGE, orchestrator_of
from .futures import done_future
from .guard import in_turn
from .kinds import EntityCalls, SendEvent, TypedPayloads, converted
from .names import checked_text, parts_of_id
from .ports import Host
from .retry import Interval, in_microseconds
from .times import as_microseconds

__all__ = [
    "EntityLock",
    "EntityReference",
    "Signals",
    "bound_operation",
    "due_of",
    "is_entity",
    "operation_message",
]

LOCKED, UNLOCKED = "locked", "unlocked"

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with defaults

    #: The class of the entity; anything, where that is not known.
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


def is_entity(reference: Any) -> bool:
    """Tell whether this is a reference that ``ctx.entity`` gave."""
    return type(reference) is EntityReference


def bound_operation(
    declaration: Declaration | None,
    name: str,
    send: Callable[[dict[str, Any]], Any],
    check: Callable[..., None],
) -> Callable[..., Any]:
    """Return a function that makes a message of its arguments and sends it.

    Args:
        declaration: of the entity, if it is known here.
        name: of the operation.
        send: sends the message.
        check: is told the declaration, the name and the arguments, and refuses what does not fit.

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
            check(declaration, name, args, kwargs)
        return send(operation_message(name, args, kwargs))

    operation.__name__ = operation.__qualname__ = name
    return operation


def operation_message(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the message that asks for an operation.

    Raises:
        TypeError: its name is no string.
        ValueError: its name is empty or too long, or contains NUL.
    """
    message: dict[str, Any] = {"op": checked_text(name, "the name of an operation")}
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
    if delay is not None and at is not None:
        raise ValueError("a signal takes delay= or at=, not both")
    if at is not None:
        return as_microseconds(at)
    if delay is None or not (micros := in_microseconds(delay, "delay")):
        return None
    return now + micros


class EntityReference(Generic[T]):
    """An entity, as an orchestrator sees it: its operations are methods that give awaitables.

    See ``ctx.entity``.
    """

    def __init__(self, host: Host, id_: str, declaration: Declaration | None) -> None:
        self._host = host
        self._declaration = declaration
        self.id = id_

    def __repr__(self) -> str:
        return f"<entity {self.id}>"

    @property
    def signal(self) -> Signals:
        """Its operations, one-way: ``.signal.add(5)``, or later ``.signal(delay=60).add(5)``,
        ``.signal(at=when).add(5)``.
        """
        return Signals(self)

    def __getattr__(self, name: str) -> Callable[..., asyncio.Future[Any]]:
        return bound_operation(self._declaration, name, self._call, self._check)

    @in_turn
    def _check(
        self, declaration: Declaration, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuse arguments that do not fit, as the first time."""
        codec = self._host.codec
        if declaration.types_of(name, codec):
            self._host.of(TypedPayloads).checked(
                lambda: declaration.expect_fitting(name, args, kwargs, codec), is_of_call=True
            )

    @in_turn
    def _call(self, message: dict[str, Any]) -> asyncio.Future[Any]:
        host = self._host
        lock = host.of(EntityCalls).lock
        held = lock.grant_of(self.id) if lock is not None else {}
        if lock is not None and not held:
            raise DurableError(
                f"orchestration {host.info.instance_id!r} calls {self.id}.{message['op']}()"
                " inside a ctx.lock() block that does not hold that entity: two such"
                " orchestrations could wait for each other. Name it in ctx.lock(...), or use"
                " .signal",
                instance_id=host.info.instance_id,
                entity_id=self.id,
            )
        answer = _ask(host, self.id, {**message, **held, **_context_of(host)})
        known = self._declaration
        types = None if known is None else known.types_of(message["op"], host.codec)
        if types is None or not types.decodes_result:
            return answer
        return converted(
            host, answer, lambda value: host.of(TypedPayloads).checked(lambda: types.result(value))
        )

    @in_turn
    def _signal(self, message: dict[str, Any], due: int | None) -> asyncio.Future[None]:
        host = self._host
        lock = host.of(EntityCalls).lock
        held = lock.grant_of(self.id) if lock is not None and due is None else {}
        content = {**message, **held, **_context_of(host)}
        _send(host, host.next_number(), self.id, content, due=due)
        return done_future(host.loop, None)


def _context_of(host: Host) -> dict[str, Any]:
    """Return what of its caller's context an operation is to have."""
    return {"context": dict(host.info.values)} if host.info.values else {}


class Signals:
    """The operations of an entity, one-way; see ``EntityReference.signal``."""

    def __init__(
        self, reference: EntityReference, delay: Interval | None = None, at: datetime | None = None
    ) -> None:
        self._reference = reference
        self._due = due_of(delay, at, reference._host.now)

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
        return bound_operation(
            reference._declaration,
            name,
            lambda message: reference._signal(message, due),
            reference._check,
        )


class EntityLock:
    """``async with ctx.lock(...)``; see ``OrchestrationContext.lock``.

    An orchestrator that is a generator says ``lock = ctx.lock(...)``, ``yield lock.acquire()`` and,
    in a ``finally``, ``lock.release()``.
    """

    def __init__(self, host: Host, entities: Sequence[EntityReference], lease: int | None) -> None:
        if not entities:
            raise ValueError("ctx.lock() takes at least one entity")
        if odd := [each for each in entities if not is_entity(each)]:
            raise TypeError(f"ctx.lock() takes what ctx.entity(...) gives, not {odd[0]!r}")
        self._host = host
        self._ids = sorted({each.id for each in entities})
        self._lease = lease
        self._requests: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    @property
    def commands(self) -> set[int]:
        """The command numbers by which the entities were asked for."""
        return {int(request.rpartition(":")[2]) for request in self._requests.values()}

    @property
    def numbers(self) -> Mapping[str, int]:
        """The fencing numbers by entity id: each grant of an entity has a higher one than those
        before it.
        """
        return dict(self._numbers)

    def grant_of(self, entity_id: str) -> dict[str, Any]:
        """Return what an operation shows to be admitted; nothing if the entity is not held."""
        if entity_id not in self._numbers:
            return {}
        return {"held": self._requests[entity_id], "number": self._numbers[entity_id]}

    @in_turn
    def acquire(self) -> asyncio.Future[EntityLock]:
        """Take the locks; for orchestrators that are generators.

        Raises:
            DurableError: the orchestration is inside such a block already.
        """
        self._enter()
        return self._host.loop.create_task(self._acquire())

    @in_turn
    def release(self) -> None:
        """Give everything back that is held or asked for; without effect after that."""
        host = self._host
        calls = host.of(EntityCalls)
        if calls.lock is not self:
            return
        calls.lock = None
        host.open_blocks -= 1
        for entity_id, request in reversed(self._requests.items()):
            _send(
                host, host.next_number(), entity_id, {"unlock": request}, note={UNLOCKED: request}
            )
        self._requests.clear()
        self._numbers.clear()

    def _enter(self) -> None:
        host = self._host
        calls = host.of(EntityCalls)
        if calls.lock is not None:
            raise DurableError(
                f"orchestration {host.info.instance_id!r} is inside a ctx.lock() block"
                " already: two such orchestrations could wait for each other. Name all entities in"
                " one ctx.lock(...)",
                instance_id=host.info.instance_id,
            )
        calls.lock = self
        host.open_blocks += 1

    async def _acquire(self) -> EntityLock:
        try:
            for entity_id in self._ids:
                await self._acquire_one(entity_id)
        except BaseException:
            self.release()
            raise
        return self

    async def _acquire_one(self, entity_id: str) -> None:
        host = self._host
        command = host.next_number()
        request = self._requests[entity_id] = f"{host.info.execution_id}:{command}"
        message: dict[str, Any] = {"lock": request}
        if self._lease is not None:
            message["lease"] = self._lease
        number = await _ask(host, entity_id, message, command=command, note={LOCKED: request})
        self._numbers[entity_id] = number

    @in_turn
    async def __aenter__(self) -> EntityLock:
        self._enter()
        return await self._acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _ask(
    host: Host,
    entity_id: str,
    message: dict[str, Any],
    *,
    command: int | None = None,
    note: Mapping[str, Any] | None = None,
) -> asyncio.Future[Any]:
    """Send a message and return the future of its answer."""
    calls = host.of(EntityCalls)
    number = host.next_number() if command is None else command
    is_lock = "lock" in message

    def ask(again: int) -> str:
        name = calls.reply_name(number, again)
        whole = {**message, "reply": [host.info.instance_id, name]}
        _send(host, number, entity_id, whole, note=note, again=again)
        return name

    what = "the lock of" if is_lock else f"{message['op']}() of"
    return calls.expect(number, f"{what} entity {entity_id!r}", ask, is_lock=is_lock)


def _send(
    host: Host,
    command: int,
    entity_id: str,
    message: dict[str, Any],
    *,
    due: int | None = None,
    note: Mapping[str, Any] | None = None,
    again: int = 0,
) -> None:
    payload = host.codec.encode(message)
    parts = parts_of_id(entity_id)
    creates = None if parts is None or "unlock" in message else orchestrator_of(parts[0])
    host.ask(
        SendEvent(
            command, entity_id, MESSAGE, payload, due=due, creates=creates, note=note, again=again
        )
    )
