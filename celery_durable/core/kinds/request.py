"""Requests: asked from outside, and answered by the orchestrator; first in, first out by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, overload

from ..._errors import InvalidState, PayloadError, RequestRejected
from ..commands import Command
from ..guard import in_turn
from ..history import Event, EventKind
from ..names import LONGEST_EVENT, checked_text
from ..ports import Host
from ..retry import Interval, in_microseconds
from ..typed import Annotation
from .kind import ContextPart, Kind
from .mailbox import Mailbox, id_of
from .typed_payload import TypedPayloads, converted

__all__ = ["AnswerRequest", "Request", "RequestContext", "Requests"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with defaults

    #: The type of what was asked; anything, where none is named.
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


@dataclass(slots=True)
class AnswerRequest(Command):
    """Answer a request: by a value, or by an exception that its asker is to meet."""

    confirmed_by: ClassVar[str] = EventKind.REQUEST_ANSWERED
    has_result: ClassVar[bool] = True
    takes_arguments: ClassVar[bool] = True
    is_one_shot: ClassVar[bool] = True
    #: Of the request, given by its asker.
    request_id: str
    #: Of the request.
    name: str
    #: The value or the exception, encoded.
    payload: str
    has_failed: bool

    @property
    def label(self) -> str:
        """Return the name of the request."""
        return self.name

    def agrees_with(self, event: Event) -> bool:
        """Tell whether it is what was recorded, for the same request."""
        return id_of(event) == self.request_id and Command.agrees_with(self, event)

    def has_arguments_of(self, event: Event) -> bool:
        """Tell whether the recorded answer was the same, tracebacks left out."""
        if bool((event.facts or {}).get("failed")) != self.has_failed:
            return False
        if not self.has_failed or event.payload is None:
            return event.payload == self.payload
        return bool(_essence(event.payload) == _essence(self.payload))

    def _payload(self) -> str | None:
        return self.payload

    def _facts(self) -> dict[str, Any] | None:
        return {"id": self.request_id, **({"failed": True} if self.has_failed else {})}


def _essence(failure: str) -> Any:
    """Return what an encoded exception says, without where it was raised."""
    try:
        facts = json.loads(failure)
        return [facts.get(name) for name in ("module", "type", "message", "args", "state")]
    except (ValueError, AttributeError, RecursionError):
        return failure


class Request(Generic[T]):
    """What was asked of an orchestration: answer it once, by ``reply`` or ``reject``."""

    __slots__ = ("_host", "data", "id", "name")

    def __init__(self, host: Host, id: str, name: str, data: T) -> None:
        self._host = host
        #: Given by the asker, or made; the same one again is the same request.
        self.id: str = id
        #: What ``ctx.wait_request`` waited for.
        self.name: str = name
        #: What was asked, decoded.
        self.data: T = data

    @in_turn
    def reply(self, value: Any = None) -> None:
        """Answer by a value, which ``run.ask`` returns once the turn is committed.

        Raises:
            InvalidState: it is answered already.
            PayloadError: the value cannot be encoded.

        Example:
            >>> request.reply({"ok": True})
        """
        host = self._host
        host.of(Requests).answer(self, host.codec.encode(value), has_failed=False)

    @in_turn
    def reject(self, error: str | BaseException) -> None:
        """Refuse: ``run.ask`` raises ``RequestRejected`` with this text, or this exception.

        Raises:
            InvalidState: it is answered already.
            TypeError: it is neither a text nor an exception.

        Example:
            >>> request.reject("already shipped")
        """
        host = self._host
        if isinstance(error, str):
            error = RequestRejected(error, instance_id=host.info.instance_id, request_id=self.id)
        if not isinstance(error, BaseException):
            raise TypeError(f"reject() takes a text or an exception, not {error!r:.80}")
        host.of(Requests).answer(self, host.codec.encode_failure(error), has_failed=True)

    def __repr__(self) -> str:
        return f"<Request {self.name!r} {self.id!r}>"


class Requests(Kind):
    """The requests that have come, and which of them have no answer."""

    name = message = "request"
    commands: ClassVar[tuple[type[Command], ...]] = (AnswerRequest,)
    inputs: ClassVar[Mapping[str, type[Command] | None]] = {EventKind.REQUEST_RECEIVED: None}

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._mailbox = Mailbox(host, self.message)
        #: The ids of those that are not answered, in the order of arrival.
        self._open: dict[str, None] = {}

    def wait(self, name: str, timeout: int | None) -> asyncio.Future[Request]:
        """Return a future of the next request of that name."""
        return self._mailbox.wait(name, timeout)

    @property
    def awaited(self) -> list[str]:
        """The names of the requests that the code waits for now."""
        return self._mailbox.awaited

    def answer(self, request: Request, payload: str, *, has_failed: bool) -> None:
        """Answer a request.

        Raises:
            InvalidState: it is answered already.
        """
        host, id_ = self.host, request.id
        if id_ not in self._open:
            raise InvalidState(
                f"request {id_!r} ({request.name}) is answered already",
                instance_id=host.info.instance_id,
                request_id=id_,
            )
        del self._open[id_]
        host.ask(AnswerRequest(host.next_number(), id_, request.name, payload, has_failed))

    def left(self) -> list[Event]:
        """Return what the code was not given, for the next execution; it is open here no more."""
        kept = self._mailbox.left()
        for event in kept:
            self._open.pop(id_of(event) or "", None)
        return kept

    def take_unanswered(self) -> list[str]:
        """Return the ids of those that get no answer, as the execution is over."""
        return list(self._open)

    # -- what the machine asks ---------------------------------------------------------------------

    def is_wanted(self, event: Event) -> bool:
        """Tell whether it is no copy of a request that has come."""
        return not self._mailbox.knows(event)

    def resolve(self, event: Event) -> None:
        """Give the request to the first that waits for it, or keep it."""
        self._mailbox.note(event)
        host, id_ = self.host, id_of(event) or ""
        # now: damage must not come up in the user's code
        data = host.codec.decode(event.payload or "null")
        self._open[id_] = None
        self._mailbox.put(event, Request(host, id_, event.name, data))

    def is_waiting(self) -> bool:
        """Tell whether the code waits for a request."""
        return bool(self.awaited)

    def waits_for(self) -> list[str]:
        """Return the requests that the code waits for now, in words."""
        return [f"a request {name!r}" for name in self.awaited]


class RequestContext(ContextPart):
    """Waiting for requests."""

    @overload
    def wait_request(
        self, name: str, *, timeout: Interval | None = None, type: type[T]
    ) -> asyncio.Future[Request[T]]: ...
    @overload
    def wait_request(
        self, name: str, *, timeout: Interval | None = None, type: Annotation | None = None
    ) -> asyncio.Future[Request[Any]]: ...
    @in_turn
    def wait_request(
        self, name: str, *, timeout: Interval | None = None, type: Any = None
    ) -> asyncio.Future[Request[Any]]:
        """Wait for the next request of that name, first in first out: what ``run.ask`` asks.

        Answer it by ``request.reply(value)`` or ``request.reject(error)``. ``type`` is any
        annotation, to which its data is decoded.

        Raises:
            TimeoutError: (when awaited) none came within ``timeout``; 0 takes a buffered one or
                raises.
            PayloadError: (when awaited) the data does not fit ``type``; the request is used up, and
                its asker gets this error.

        Example:
            >>> request = await ctx.wait_request("change_address")
            >>> request.reply({"ok": True})
        """
        name = checked_text(name, "the name of a request", LONGEST_EVENT)
        micros = None if timeout is None else in_microseconds(timeout, "timeout")
        host = self._host
        future = host.of(Requests).wait(name, micros)
        if type is None:
            return future
        return converted(host, future, lambda request: _typed(host, request, type))


def _typed(host: Host, request: Request, wanted: Any) -> Request:
    """Return a request with its data as a type says.

    Raises:
        PayloadError: it does not fit; the asker is told.
    """
    what = f"the request {request.name!r}"
    try:
        request.data = host.of(TypedPayloads).checked(
            lambda: host.codec.as_type(request.data, wanted, what)
        )
    except PayloadError as error:
        request.reject(error)
        raise
    return request
