"""Entities as clients see them: signals, state, and lists."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic

from ..core.entity import Declaration, id_of
from ..core.guard import refuse_inside_orchestrator
from ..core.references import bound_operation, due_of
from ..core.times import EPOCH
from ..engine.entity_client import Entities, EntityRecord
from .aio import in_thread, of_this_thread, twin

__all__ = [
    "Entity",
    "EntityPage",
    "EntityReference",
    "EntitySignals",
    "entities_of",
    "entity_page",
    "seen_entity",
]

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with defaults

    from ..core.retry import Interval
    from ..engine.runtime import Runtime

    #: The class of the entity; anything, where that is not known.
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


@dataclass(frozen=True)
class Entity:
    """An entity as it was seen.

    Attributes:
        id: of its instance, ``@<name>@<key>``.
        name, key: what ``durable.entity(name, key)`` takes.
        state: its public attributes; None as long as no operation has succeeded.
        is_empty: whether they all are what the class begins with.
        locked_by: the id of the orchestration that holds it; None if it is not locked.
        waiting: how many messages wait for the end of that lock.
        updated_at: when it last took messages, aware UTC.
    """

    id: str
    name: str
    key: str
    state: dict[str, Any] | None
    is_empty: bool
    locked_by: str | None
    waiting: int
    updated_at: datetime


@dataclass(frozen=True)
class EntityPage:
    """One page of ``durable.entities``.

    ``next_cursor`` is None on the last, ``previous_cursor`` on the first.
    """

    items: list[Entity]
    next_cursor: str | None
    previous_cursor: str | None = None


def entities_of(runtime: Runtime) -> Entities:
    """Return what the clients of this process do with entities."""
    horizon = int(runtime.settings.timer_horizon * 1_000_000)
    return Entities(runtime.store, runtime.codec, runtime.publisher, horizon)


def entity_page(runtime: Runtime, name: str | None, limit: int, cursor: str | None) -> EntityPage:
    """Return a page of entities; see ``Durable.entities``."""
    records, *cursors = entities_of(runtime).page(name, limit, cursor)
    return EntityPage([_seen(record) for record in records], *cursors)


def seen_entity(runtime: Runtime, id_: str) -> Entity | None:
    """Return an entity by the id of its instance; None if there is none."""
    record = entities_of(runtime).fetch(id_)
    return None if record is None else _seen(record)


def _seen(record: EntityRecord) -> Entity:
    return Entity(
        record.id,
        record.name,
        record.key,
        record.state,
        record.is_empty,
        record.locked_by,
        record.waiting,
        EPOCH + timedelta(microseconds=record.updated_at),
    )


class EntityReference(Generic[T]):
    """An entity, as a client sees it; see ``Durable.entity``."""

    def __init__(self, durable: Any, cls: Any, key: str) -> None:
        self._durable = durable
        self.id: str
        self.id, self._declaration = id_of(cls, key)

    def __repr__(self) -> str:
        return f"<entity {self.id}>"

    if not TYPE_CHECKING:  # checkers find by themselves what a reference does not have

        def __getattr__(self, name: str) -> Any:
            """Tell how an operation is reached: a client sends signals, and cannot call."""
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(
                f"a reference to an entity has no {name!r}: outside of an orchestrator send a"
                f" signal, as in durable.entity(...).signal.{name}(...), and look at .state();"
                " ctx.entity(...) in an orchestrator gets answers"
            )

    @property
    def signal(self) -> EntitySignals:
        """Its operations, one-way: ``.signal.add(1)``; see ``EntitySignals``."""
        return EntitySignals(self._durable, self.id, self._declaration)

    def state(self) -> dict[str, Any] | None:
        """Return its public attributes.

        None if there is no such entity, or no operation has succeeded yet.

        Raises:
            StoreError: the store cannot be reached.

        Example:
            >>> durable.entity(Counter, "visits").state()
        """
        record = entities_of(self._durable.runtime).fetch(self.id)
        return None if record is None else record.state

    @property
    def asignal(self) -> AwaitedSignals:
        """Its operations, one-way, for code that runs on an event loop:
        ``await ref.asignal.add(5)``.
        """
        return AwaitedSignals(self.signal)

    astate: Final = twin(state)


@dataclass(frozen=True)
class EntitySignals:
    """The operations of an entity, one-way.

    What one raises is logged by the worker, and changes nothing.
    """

    _durable: Any
    _id: str
    _declaration: Declaration | None
    _delay: Interval | None = None
    _at: datetime | None = None
    _session: Any = None

    def __call__(
        self, *, delay: Interval | None = None, at: datetime | None = None, session: Any = None
    ) -> EntitySignals:
        """Return the same, for later or within a transaction of the caller's:
        ``.signal(delay=60).add(1)``.

        Args:
            delay: seconds or ``timedelta`` from the call of the operation.
            at: an aware ``datetime``; one in the past is now.
            session: an SQLAlchemy session or connection whose transaction the signal joins.

        Raises:
            ValueError: ``delay`` and ``at`` are both given, ``delay`` is negative, or ``at`` is
                naive.
        """
        due_of(delay, at, 0)
        return EntitySignals(self._durable, self._id, self._declaration, delay, at, session)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return bound_operation(self._declaration, name, self._send, self._check)

    def _check(
        self, declaration: Declaration, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        declaration.expect_fitting(name, args, kwargs, self._durable.runtime.codec)

    def _send(self, content: dict[str, Any]) -> None:
        runtime: Runtime = self._durable.runtime
        due = due_of(self._delay, self._at, runtime.store.now() if self._delay else 0)
        if values := runtime.runner.propagators.captured_values():
            content = {**content, "context": dict(values)}
        message = entities_of(runtime).message(self._id, content, due)

        def publish() -> None:
            runtime.runner.dispatcher.turns_of(
                [message], runtime.store.now() if due is not None else 0
            )

        transaction = runtime.client.transactions.find(self._session)
        if transaction is None:
            runtime.store.inbox.put([message])
            publish()
            return
        transaction.write(lambda store, cursor: store.inbox.put_within(cursor, [message]))
        transaction.after_commit(publish)


@dataclass(frozen=True)
class AwaitedSignals:
    """The same as ``EntitySignals``, for code that runs on an event loop."""

    _signals: EntitySignals
    #: An ``AsyncSession`` or ``AsyncConnection``, whose transaction the signals join.
    _session: Any = None

    def __call__(self, *, session: Any = None, **options: Any) -> AwaitedSignals:
        """Return the same, for later or within a transaction; see ``EntitySignals``."""
        session = of_this_thread(session)
        if hasattr(session, "run_sync"):
            return AwaitedSignals(self._signals(**options), session)
        return AwaitedSignals(self._signals(session=session, **options))

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        operation = getattr(self._signals, name)

        async def send(*args: Any, **kwargs: Any) -> None:
            refuse_inside_orchestrator("asignal")
            if self._session is None:
                await in_thread(operation, *args, **kwargs)
                return

            def joined(sync: Any) -> None:
                getattr(replace(self._signals, _session=sync), name)(*args, **kwargs)

            await self._session.run_sync(joined)

        return send
