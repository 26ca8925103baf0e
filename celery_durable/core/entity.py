"""One entity: messages go in, replies come out, and its state is a value.

An entity is an instance whose execution rests after every turn: what it knows is the input of its next execution, so it has no
history, is never replayed, and an operation may be any plain method. The caller's side is in ``references``.

A message is a JSON object with one of these keys: ``op`` (an operation), ``lock`` (the wish for a lock), ``unlock`` (a release,
or a wish that is withdrawn), ``look`` (a lease may be over).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import ConfigurationError, DurableError, LockLost, PayloadError
from .calls import checked_name
from .commands import SendEvent

if TYPE_CHECKING:
    from .context import OrchestrationContext

__all__ = [
    "MESSAGE",
    "ORCHESTRATORS",
    "REPLY",
    "RESERVED",
    "Declaration",
    "Entity",
    "Outgoing",
    "declare",
    "declaration_of",
    "entity_id",
    "id_of",
    "orchestrator_of",
    "parts_of_id",
    "run_by",
]

RESERVED = "celery_durable."
MESSAGE = "celery_durable.entity"
REPLY = "celery_durable.reply:"
ORCHESTRATORS = "celery_durable.entity."
LONGEST_NAME = 60
_TAKEN = frozenset({"id", "signal", "state"})  # what a reference itself has
_MARK = "__durable_entity__"
_REMEMBERED = 256
_REMEMBERED_FOR = 60_000_000
_NAME = re.compile(r"[^\W\d][\w.-]*")

log = logging.getLogger("celery_durable.entity")


class Codec(Protocol):
    """What an entity needs to keep and to pass values."""

    def encode(self, value: Any) -> str:
        """Encode a value; raises ``PayloadError``."""

    def decode(self, payload: str) -> Any:
        """Decode a payload."""

    def encode_failure(self, error: BaseException) -> str:
        """Encode an exception."""


# -- names ------------------------------------------------------------------------------------------------------------


def entity_id(name: str, key: Any) -> str:
    """Return the instance id of an entity.

    Raises:
        TypeError: the key is no string.
        ValueError: it is empty or too long, or contains NUL or half a character.
    """
    if not isinstance(key, str):
        raise TypeError(f"the key of an entity is a string, not {type(key).__name__}")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(f"{name!r} is no name of an entity")
    checked_name(key, "the key of an entity", 148 - len(name))
    return f"@{name}@{key}"


def parts_of_id(instance_id: str) -> tuple[str, str] | None:
    """Return the name and the key of an entity, or None if it is not the id of one."""
    if not instance_id.startswith("@"):
        return None
    name, at, key = instance_id[1:].partition("@")
    return (name, key) if at and key and _NAME.fullmatch(name) else None


def orchestrator_of(name: str) -> str:
    """Return the name of the orchestrator that runs the entities of a class."""
    return ORCHESTRATORS + name


# -- the class ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declaration:
    """A class whose objects are entities, and its operations."""

    name: str
    cls: type
    operations: tuple[str, ...]

    def check(self, operation: str) -> None:
        """Refuse what is no operation.

        Raises:
            AttributeError: it is private, missing, or no method.
        """
        if operation not in self.operations:
            has = ", ".join(self.operations) or "none"
            raise AttributeError(f"entity {self.name!r} has no operation {operation!r}; its public methods are: {has}")

    def check_arguments(self, operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that an operation cannot take.

        Raises:
            TypeError: they do not fit.
        """
        found = inspect.getattr_static(self.cls, operation)
        if not inspect.isfunction(found):
            return
        try:
            inspect.signature(found).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}.{operation}(): {error}") from None


def run_by(declaration: Declaration) -> Callable[..., Any]:
    """Return the orchestrator of the entities of a class."""

    async def run_entity(ctx: OrchestrationContext, saved: Any = None) -> None:
        execution = ctx._execution
        parts = parts_of_id(ctx.instance_id)
        if parts is None or parts[0] != declaration.name:
            raise DurableError(
                f"{ctx.name} is not to be started: an entity comes to be by its first message, as by "
                f"durable.entity({declaration.name}, key).signal.operation()", instance_id=ctx.instance_id,
            )  # fmt: skip
        entity: Entity | None = None

        def rest() -> Any:
            if entity is None:
                return saved
            if entity.state is not None:
                ctx.set_status(entity.state_value)
            return entity.saved()

        execution.rest_after_turn(rest)
        entity = Entity(declaration, execution.codec, ctx.instance_id, saved)
        while True:
            try:
                message = await ctx.wait_event(MESSAGE)
            except asyncio.CancelledError:
                log.warning("entity %r cannot be canceled; terminate() deletes it", ctx.instance_id)
                continue
            for out in entity.take(message, execution.now):
                execution.ask(SendEvent(execution.next_command(), out.to, out.name, out.payload, due=out.due))

    return run_entity


def declare(cls: Any, name: str | None = None) -> Declaration:
    """Check a class and make its objects entities.

    Raises:
        ConfigurationError: it cannot be one; the message says why.
        TypeError: it is no class.
    """
    if not inspect.isclass(cls):
        raise TypeError(f"an entity is declared by a class, not by {cls!r}")
    chosen = cls.__name__ if name is None else name
    if not isinstance(chosen, str) or not _NAME.fullmatch(chosen) or len(chosen) > LONGEST_NAME:
        raise ConfigurationError(
            f"entity {chosen!r}: a name begins with a letter, goes on with letters, digits, '_', '.', '-', and has at most "
            f"{LONGEST_NAME} characters"
        )
    operations = tuple(sorted(each for each in dir(cls) if not each.startswith("_") and _is_method(cls, each)))
    for each in operations:
        found = inspect.unwrap(getattr(cls, each))
        if (
            inspect.iscoroutinefunction(found)
            or inspect.isgeneratorfunction(found)
            or inspect.isasyncgenfunction(found)
        ):
            raise ConfigurationError(
                f"entity {chosen}: {each}() must be a plain method: an operation cannot wait. Let an orchestrator do that"
            )
    if wrong := sorted(_TAKEN.intersection(operations)):
        raise ConfigurationError(
            f"entity {chosen}: no operation can be called {', '.join(wrong)}: a reference has that"
        )
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"entity {chosen}: {cls.__name__}() must be possible without arguments: {error}"
        ) from None
    except ValueError:
        pass  # a class of C, which tells nothing
    if not cls.__dictoffset__:
        raise ConfigurationError(f"entity {chosen}: with __slots__ its objects have no attributes that could be kept")
    declaration = Declaration(chosen, cls, operations)
    setattr(cls, _MARK, declaration)
    return declaration


def _is_method(cls: type, name: str) -> bool:
    found = inspect.getattr_static(cls, name)
    return inspect.isfunction(found) or isinstance(found, (staticmethod, classmethod))


def declaration_of(cls: type) -> Declaration:
    """Return the declaration of a class.

    Raises:
        TypeError: it is not declared; that of a base class does not count.
    """
    found = cls.__dict__.get(_MARK)
    if not isinstance(found, Declaration):
        raise TypeError(f"{cls.__name__} is no entity: decorate the class with @durable.entity")
    return found


def id_of(cls: Any, key: Any) -> tuple[str, Declaration | None]:
    """Return the id of an entity, by its class or by its registered name, and the declaration if that is at hand.

    Raises:
        TypeError: it is neither, or the key is no string.
        ValueError: the name or the key does not fit.
    """
    if isinstance(cls, str):
        return entity_id(cls, key), None
    if not inspect.isclass(cls):
        raise TypeError(f"an entity is named by its class or its registered name, not by {cls!r}")
    declaration = declaration_of(cls)
    return entity_id(declaration.name, key), declaration


# -- the object -----------------------------------------------------------------------------------------------------------


class Outgoing(NamedTuple):
    """An event to send, encoded; ``due`` is microseconds since the epoch, None is now."""

    to: str
    name: str
    payload: str
    due: int | None = None


@dataclass(slots=True)
class _Lock:
    """A lock that is held; ``until`` is when its lease is over."""

    wish: str
    number: int
    until: int | None = None
    is_watched: bool = False
    holder: str | None = None


@dataclass(slots=True)
class Entity:
    """What one entity is between two messages; ``saved()`` brings it back."""

    declaration: Declaration
    codec: Codec
    id: str
    last: Any = None
    state: str | None = field(init=False, default=None)
    _number: int = field(init=False, default=0)
    _lock: _Lock | None = field(init=False, default=None)
    _queue: deque[Mapping[str, Any]] = field(init=False, default_factory=deque)
    _seen: dict[str, None] = field(init=False, default_factory=dict)
    _seen_at: int = field(init=False, default=0)
    _out: list[Outgoing] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.last is None:
            return
        try:
            if self.last.get("state") is not None:
                self.state = self.codec.encode(dict(self.last["state"]))
            self._number = int(self.last.get("number", 0))
            self._lock = _Lock(*lock) if (lock := self.last.get("lock")) else None
            self._queue.extend(message for message in self.last.get("queue", ()) if _is_sound(message))
            self._seen.update(dict.fromkeys(self.last.get("seen", ())))
            self._seen_at = int(self.last.get("seen_at", 0))
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise PayloadError(f"the stored state of entity {self.id!r} is damaged: {error}") from error

    @property
    def state_value(self) -> Any:
        """The state, decoded."""
        return None if self.state is None else self.codec.decode(self.state)

    def saved(self) -> dict[str, Any]:
        """Return all of it as a value; what is empty is left out."""
        lock = self._lock
        whole = {
            "state": self.state_value, "empty": self._is_at_defaults(), "number": self._number,
            "lock": None if lock is None else [lock.wish, lock.number, lock.until, lock.is_watched, lock.holder],
            "queue": list(self._queue), "seen": list(self._seen),
            "seen_at": self._seen_at if self._seen else 0,
        }  # fmt: skip
        return {name: value for name, value in whole.items() if value or name == "state"}

    def take(self, message: Any, now: int) -> list[Outgoing]:
        """Take one message and return what is to be sent; whatever the message holds, nothing is raised."""
        if not _is_sound(message):
            log.warning("entity %r got a message that is none: %.200r", self.id, message)
            return []
        if self._was_seen(message, now):
            return []
        if "look" in message:
            if self._lock is not None and self._lock.number == message["look"]:
                self._end_lease(now)
        elif "unlock" in message:
            self._unlock(message["unlock"])
        elif self._lock is not None and self._lock.wish == message.get("held"):
            self._end_lease(now, by_foreign=False)
            self._operate(message)
        elif "held" in message:
            self._refuse(message)
        elif "lock" not in message or not self._is_known_wish(message["lock"]):
            self._end_lease(now)
            self._queue.append(message)
        self._work_off(now)
        self._watch()
        out, self._out = self._out, []
        return out

    def _was_seen(self, message: Mapping[str, Any], now: int) -> bool:
        """Tell whether this is a copy: a client may send once more after an answer that was lost."""
        if (message_id := message.get("id")) is None:
            return False
        if now - self._seen_at > _REMEMBERED_FOR:
            self._seen.clear()
        if message_id in self._seen:
            return True
        while len(self._seen) >= _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[message_id], self._seen_at = None, now
        return False

    # -- locks --------------------------------------------------------------------------------------------------

    def _is_known_wish(self, wish: str) -> bool:
        held = self._lock is not None and self._lock.wish == wish
        return held or any(message.get("lock") == wish for message in self._queue)

    def _unlock(self, wish: str) -> None:
        if self._lock is not None and self._lock.wish == wish:
            self._lock = None
        else:
            self._queue = deque(message for message in self._queue if message.get("lock") != wish)

    def _end_lease(self, now: int, *, by_foreign: bool = True) -> None:
        """Take a lock away whose lease is over, if anything else wants in; else its holder may go on."""
        lock = self._lock
        if lock is not None and lock.until is not None and lock.until <= now and (by_foreign or self._queue):
            log.warning("entity %r: the lease of lock %s (number %d) is over", self.id, lock.wish, lock.number)
            self._lock = None

    def _work_off(self, now: int) -> None:
        while self._queue and self._lock is None:
            message = self._queue.popleft()
            if "lock" in message:
                self._grant(message, now)
            else:
                self._operate(message)

    def _grant(self, message: Mapping[str, Any], now: int) -> None:
        self._number = max(self._number + 1, now)  # higher than ever, also after the entity was cleaned away
        lease = message.get("lease")
        holder, _ = message.get("reply") or (None, None)
        self._lock = _Lock(message["lock"], self._number, None if lease is None else now + lease, holder=holder)
        self._reply(message, self.codec.encode({"result": self._number}))

    def _watch(self) -> None:
        """Look again when the lease is over, if anybody waits for that."""
        lock = self._lock
        if lock is not None and lock.until is not None and self._queue and not lock.is_watched:
            self._out.append(Outgoing(self.id, MESSAGE, self.codec.encode({"look": lock.number}), lock.until))
            lock.is_watched = True

    def _refuse(self, message: Mapping[str, Any]) -> None:
        error = LockLost(
            f"{self.id}.{message.get('op')}() was called under a lock that is not held any more: its lease is over, or the "
            "entity was deleted. Nothing was changed; take the lock again, with a longer lease=",
            entity_id=self.id, number=message.get("number"),
        )  # fmt: skip
        self._fail(message, error)

    # -- operations -----------------------------------------------------------------------------------------------

    def _operate(self, message: Mapping[str, Any]) -> None:
        if "held" in message and (self._lock is None or self._lock.wish != message["held"]):
            return self._refuse(message)
        try:
            self.declaration.check(message["op"])
            state, reply = self._apply(message)
        except (Exception, asyncio.CancelledError) as error:
            return self._fail(message, error)
        self.state = state
        self._reply(message, reply)

    def _apply(self, message: Mapping[str, Any]) -> tuple[str, str]:
        """Run an operation on an object made of the state; return the new state and the reply, encoded."""
        target = self.declaration.cls()
        vars(target).update(self.state_value or {})
        result = getattr(target, message["op"])(*message.get("args", ()), **message.get("kwargs", {}))
        if isinstance(result, Awaitable):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(f"{self.id}.{message['op']}() returned something to await; an operation cannot wait")
        try:
            state = self.codec.encode({name: value for name, value in vars(target).items() if not name.startswith("_")})
        except PayloadError as error:
            raise PayloadError(f"{self.id}.{message['op']}() left a state with {error}") from error
        if message.get("reply") is None:
            return state, ""
        try:
            return state, self.codec.encode({"result": result})
        except PayloadError as error:
            raise PayloadError(f"{self.id}.{message['op']}() returned {error}") from error

    def _fail(self, message: Mapping[str, Any], error: BaseException) -> None:
        if message.get("reply") is None:
            log.warning(
                "entity %r: operation %s failed, nothing was changed", self.id, message.get("op"), exc_info=error
            )
            return
        try:
            payload = self.codec.encode({"failure": self.codec.encode_failure(error)})
        except PayloadError as problem:
            payload = self.codec.encode({"failure": self.codec.encode_failure(problem.with_traceback(None))})
        self._reply(message, payload)

    def _reply(self, message: Mapping[str, Any], payload: str) -> None:
        if (reply := message.get("reply")) is not None:
            self._out.append(Outgoing(reply[0], reply[1], payload))

    def _is_at_defaults(self) -> bool:
        state = self.state_value
        if not state:
            return True
        try:
            fresh = self.declaration.cls()
            return all(self._is_same(value, getattr(fresh, name)) for name, value in state.items())
        except Exception:
            return False

    def _is_same(self, value: Any, default: Any) -> bool:
        return self.codec.encode(value) == self.codec.encode(default)


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "op": lambda value: isinstance(value, str),
    "lock": lambda value: isinstance(value, str),
    "unlock": lambda value: isinstance(value, str),
    "look": lambda value: isinstance(value, int),
}
_DETAILS: Mapping[str, Callable[[Any], bool]] = {
    "args": lambda value: isinstance(value, (list, tuple)),
    "kwargs": lambda value: isinstance(value, dict) and all(isinstance(name, str) for name in value),
    "reply": lambda value: (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(each, str) for each in value)
    ),
    "lease": lambda value: isinstance(value, int) and value > 0,
    "held": lambda value: isinstance(value, str),
    "id": lambda value: isinstance(value, str),
}


def _is_sound(message: Any) -> bool:
    if not isinstance(message, dict) or sum(kind in message for kind in _SHAPES) != 1:
        return False
    return all(check(message[name]) for name, check in {**_SHAPES, **_DETAILS}.items() if name in message)
