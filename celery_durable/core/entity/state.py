"""One entity: messages go in, replies come out, and its state is a value.

An entity is an instance whose execution ends with every turn: what it knows is the input of its
next execution, so it has no history, is never replayed, and an operation may be any plain method.
The caller's side is in ``references``.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..._errors import LockLost, PayloadError
from ..endings import is_own
from ..entity_names import MESSAGE
from ..kinds import Aside
from ..ports import Codec
from .declaration import Declaration
from .lock import Lock, Waiting
from .messages import Operation, Outgoing, is_sound, running_operation

__all__ = ["Entity"]

#: How many ids of messages are remembered, and for how long after the last of them.
_REMEMBERED = 256
_REMEMBERED_FOR = 60_000_000

log: logging.Logger = logging.getLogger("celery_durable.entity")


@dataclass(slots=True)
class Entity:
    """What one entity is between two messages; ``saved()`` brings it back."""

    declaration: Declaration
    codec: Codec
    #: Its instance id.
    id: str
    #: What ``saved()`` returned last; None if it is new.
    last: Any = None
    #: Restores the context of an operation's caller within a block.
    restored: Callable[[Mapping[str, Any]], AbstractContextManager[Any]] = lambda _: nullcontext()
    #: Its state, encoded; None before the first operation.
    state: str | None = field(init=False, default=None)
    #: The fencing number of the last grant.
    _number: int = field(init=False, default=0)
    _lock: Lock | None = field(init=False, default=None)
    _waiting: Waiting = field(init=False)
    #: The ids of messages that clients sent lately, and when the last of them came.
    _seen: dict[str, None] = field(init=False, default_factory=dict)
    _seen_at: int = field(init=False, default=0)
    #: What the message that is being taken sends.
    _out: list[Outgoing] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.last is None:
            self._waiting = Waiting(self.codec)
            return
        try:
            if self.last.get("state") is not None:
                self.state = self.codec.encode(dict(self.last["state"]), is_checked=True)
            self._number = int(self.last.get("number", 0))
            self._lock = Lock(*lock) if (lock := self.last.get("lock")) else None
            queue = [message for message in self.last.get("queue", ()) if is_sound(message)]
            self._waiting = Waiting(self.codec, queue, self.last.get("aside", (0, 0, ())))
            self._seen.update(dict.fromkeys(self.last.get("seen", ())))
            self._seen_at = int(self.last.get("seen_at", 0))
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise PayloadError(
                f"the stored state of entity {self.id!r} is damaged: {error}"
            ) from error

    @property
    def state_value(self) -> Any:
        """The state, decoded."""
        return None if self.state is None else self.codec.decode(self.state)

    def saved(self) -> dict[str, Any]:
        """Return all of it as a value; what is empty is left out."""
        whole = {
            "state": self.state_value,
            "empty": self._is_at_defaults(),
            "number": self._number,
            "lock": None if self._lock is None else self._lock.saved(),
            "queue": self._waiting.saved_queue(),
            "seen": list(self._seen),
            "seen_at": self._seen_at if self._seen else 0,
            "aside": self._waiting.saved_aside(),
        }
        return {name: value for name, value in whole.items() if value or name == "state"}

    def take(self, message: Any, now: int) -> list[Outgoing]:
        """Take one message and return what is to be sent.

        Whatever the message holds, nothing is raised.
        """
        if not is_sound(message):
            log.warning("entity %r got a message that is none: %.200r", self.id, message)
            return []
        if self._was_seen(message, now) or self._waiting.was_withdrawn(message):
            return []
        if "look" in message:
            if self._lock is not None and self._lock.number == message["look"]:
                self._end_lease(now)
        elif "unlock" in message:
            self._unlock(message["unlock"])
        elif "shown" in message:
            self._waiting.note_shown()
        elif self._lock is not None and self._lock.request == message.get("held"):
            self._end_lease(now, by_foreign=False)
            self._operate(message)
        elif "held" in message:
            self._refuse(message)
        elif "lock" not in message or not self._is_known_request(message["lock"]):
            self._end_lease(now)
            self._waiting.keep(message, is_free=self._lock is None)
        self._work_off(now)
        self._watch()
        out, self._out = self._out, []
        return out

    def _was_seen(self, message: Mapping[str, Any], now: int) -> bool:
        """Tell whether this is a copy: a client may send once more after an answer that was
        lost.
        """
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

    # -- locks -------------------------------------------------------------------------------------

    def _is_known_request(self, request: str) -> bool:
        held = self._lock is not None and self._lock.request == request
        return held or self._waiting.has_request(request)

    def _unlock(self, request: str) -> None:
        self._waiting.withdraw(request)
        if self._lock is not None and self._lock.request == request:
            self._lock = None
        else:
            self._waiting.drop(request)

    def _end_lease(self, now: int, *, by_foreign: bool = True) -> None:
        """Take a lock away whose lease is over, if anything else wants in.

        Else its holder keeps it.
        """
        lock = self._lock
        if (
            lock is not None
            and lock.until is not None
            and lock.until <= now
            and (by_foreign or self._waiting)
        ):
            log.warning(
                "entity %r: the lease of lock %s (number %d) is over",
                self.id,
                lock.request,
                lock.number,
            )
            self._lock = None

    def _work_off(self, now: int) -> None:
        while self._waiting.has_queue and self._lock is None:
            message = self._waiting.next()
            if "lock" in message:
                self._grant(message, now)
            else:
                self._operate(message)

    def _grant(self, message: Mapping[str, Any], now: int) -> None:
        # higher than ever, also after the entity was cleaned away
        self._number = max(self._number + 1, now)
        lease = message.get("lease")
        holder, _ = message.get("reply") or (None, None)
        self._lock = Lock(
            message["lock"], self._number, None if lease is None else now + lease, holder=holder
        )
        self._reply(message, self.codec.encode({"result": self._number}))

    def _watch(self) -> None:
        """Check again when the lease is over, if anything waits for that."""
        lock = self._lock
        if lock is not None and lock.until is not None and self._waiting and not lock.is_watched:
            self._out.append(
                Outgoing(self.id, MESSAGE, self.codec.encode({"look": lock.number}), lock.until)
            )
            lock.is_watched = True

    def aside(self) -> Aside | None:
        """Return, once at the end of a turn, what the commit puts aside, withdraws, and shows."""
        return self._waiting.take_aside(is_free=self._lock is None)

    def _refuse(self, message: Mapping[str, Any]) -> None:
        error = LockLost(
            f"{self.id}.{message.get('op')}() was called under a lock that is not held any more:"
            " its lease is over, or the entity was deleted. Nothing was changed; take the lock"
            " again, with a longer lease=",
            entity_id=self.id,
            number=message.get("number"),
        )
        self._fail(message, error)

    # -- operations --------------------------------------------------------------------------------

    def _operate(self, message: Mapping[str, Any]) -> None:
        if "held" in message and (self._lock is None or self._lock.request != message["held"]):
            return self._refuse(message)
        found = self.codec.attributes_of(self.declaration.cls, self.state_value or {})
        try:
            self.declaration.check(message["op"])
            operation = Operation(self.id, message["op"], self.codec, message.get("context"))
            state, reply = self._apply(message, operation, found)
        except BaseException as error:
            if not is_own(error):
                raise
            return self._fail(message, error)
        self.state = state
        self._out += operation.sent
        self._reply(message, reply)

    def _apply(
        self, message: Mapping[str, Any], operation: Operation, found: Mapping[str, Any]
    ) -> tuple[str, str]:
        """Run an operation on an object made of the state that was found.

        Return the new state and the reply, encoded.
        """
        target = self.declaration.cls()
        vars(target).update(found)
        args, kwargs = message.get("args", ()), message.get("kwargs", {})
        if types := self.declaration.types_of(operation.name, self.codec):
            args, kwargs = types.decoded(args, kwargs)
        token = running_operation.set(operation)
        try:
            with self.restored(message.get("context") or {}):
                result = getattr(target, message["op"])(*args, **kwargs)
        finally:
            running_operation.reset(token)
        if isinstance(result, Awaitable):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"{self.id}.{message['op']}() returned something to await; an operation cannot wait"
            )
        try:
            state = self.codec.encode(
                {name: value for name, value in vars(target).items() if not name.startswith("_")}
            )
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
                "entity %r: operation %s failed, nothing was changed",
                self.id,
                message.get("op"),
                exc_info=error,
            )
            return
        self._reply(
            message,
            self.codec.encode({"failure": self.codec.encode_failure(error)}, is_checked=True),
        )

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
