"""How a worker's main process holds durable messages.

An activity's message is acknowledged as soon as the store knows who runs it, or has its outcome:
not before, or a crash would lose it; not much later, or the broker's own time-outs would double it.
A turn message is never discarded as revoked: its orchestration is asked to cancel instead. Ordinary
messages of the same tasks keep their behaviour.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast
from weakref import WeakSet

from celery import Celery
from celery.utils.imports import symbol_by_name
from celery.worker import state as worker_state
from celery.worker.control import Panel

from ..engine.records import ActivityAttemptId
from .headers import HEADER, MessageHeader, ticket_in
from .runtime import runtime_of

__all__ = ["Message", "hold_messages", "hold_messages_of", "received", "watch_revoke"]

log: logging.Logger = logging.getLogger("celery_durable.request")
_classes: dict[type, type] = {}
#: The durable messages that this process has received, as long as their requests are in use.
received: WeakSet[Any] = WeakSet()


class Message(NamedTuple):
    """What a message is of: an activity or the end of an orchestration by its ticket, or a turn of
    an instance.
    """

    id: str
    ticket: ActivityAttemptId | None
    due: int


def hold_messages(app: Celery) -> None:
    """Give every registered task a request class that knows durable messages.

    Safe to call again.
    """
    for task in list(app._tasks.values()):
        hold_messages_of(task)


def hold_messages_of(task: Any) -> None:
    """Do the same for one task."""
    cls = type(task)
    if "_durable_request" not in cls.__dict__:
        cls.Request = durable_request(cls.Request)
        cls._durable_request = True
        if hasattr(cls, "durable_versions"):
            cls.durable_send_events = cls.send_events  # turns are no events: see task_events
            cls.send_events = False
    if getattr(cls, "at_most_once", False):
        # only the body itself may ask to be run again
        cls.retry_on_worker_lost = cls.reject_on_worker_lost = False


def durable_request(base: Any) -> type:
    """Return a subclass of a request class that holds back the acknowledgement of activities."""
    base = symbol_by_name(base)
    found: type = base
    if issubclass(found, DurableRequestMixin):
        return found  # of a task whose class another task's is derived from
    if base not in _classes:
        _classes[base] = type(f"Durable{base.__name__}", (DurableRequestMixin, base), {})
    return _classes[base]


class AckHold:
    """When the message of one activity may be acknowledged: not while this is held.

    It is held while Celery reports to its own handlers that the pool has the task or that it has
    ended: these acknowledge, and the store comes first. What was asked for meanwhile is noted.
    """

    __slots__ = ("is_held", "is_wanted")

    def __init__(self) -> None:
        self.is_held: bool = False
        #: Whether an acknowledgement was asked for while it was held.
        self.is_wanted: bool = False

    def __enter__(self) -> None:
        self.is_held = True

    def __exit__(self, *_: object) -> None:
        self.is_held = False


class DurableRequestMixin:
    """Mixed in front of a request class, Celery's or the application's."""

    #: What the message says of itself; None for an ordinary message.
    durable_header: MessageHeader | None = None
    #: Whose attempt it is, if it is of an activity.
    durable_ticket: ActivityAttemptId | None = None
    #: Holds the acknowledgement back. None for what Celery acknowledges as it always does: turns,
    #: ordinary messages, and activities whose task says ``acks_late``.
    _hold: AckHold | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own: Any = self
        header = self.durable_header = MessageHeader.from_wire(own._request_dict.get(HEADER))
        nesting = own._request_dict.get("replaced_task_nesting")
        self.durable_ticket = ticket_in(own.id, header, nesting)
        if self._is_turn or self.durable_ticket is not None:
            received.add(self)
        if self.durable_ticket is not None and not own.task.acks_late:
            self._hold = AckHold()
            # a pool's own request class overrides the method: shadow it here
            own.on_success = partial(self._acknowledge_after, own.on_success)

    @property
    def _is_turn(self) -> bool:
        return self.durable_header is not None and self.durable_header.kind in ("turn", "finish")

    def _acknowledge_after(
        self, on_success: Callable[..., Any], failed__retval__runtime: Any, **options: Any
    ) -> Any:
        answer = on_success(failed__retval__runtime, **options)
        if not failed__retval__runtime[0]:
            self.acknowledge()
        return answer

    def durable_message(self) -> Message:
        """Return what the message is of, and from when on it counts, by the store's clock."""
        own: Any = self
        header, ticket = self.durable_header, self.durable_ticket
        if header is not None and header.kind == "finish":
            ticket = ActivityAttemptId(str(header.execution), 0, 0)
        return Message(own.id, ticket, (header and header.due) or 0)

    def durable_came_over(self, channel: Any) -> bool:
        """Tell whether the message came over this channel, or if there is none now."""
        own: Any = self
        return channel is None or getattr(own._message, "channel", channel) is channel

    def acknowledge(self) -> None:
        """Acknowledge, or note that this was asked for while it is held back."""
        if self._hold is not None and self._hold.is_held:
            self._hold.is_wanted = True
        else:
            self._acknowledge_now()

    def _acknowledge_now(self) -> None:
        above: Any = super()
        above.acknowledge()

    def acknowledge_held(self) -> None:
        """Acknowledge now: the store knows who runs it."""
        own: Any = self
        if self._hold is not None and not own.acknowledged:
            self._acknowledge_now()

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Hear that the pool has it; Celery would acknowledge here, which is too early."""
        above: Any = super()
        if self._hold is None:
            above.on_accepted(pid, time_accepted)
            return
        try:
            with self._hold:
                above.on_accepted(pid, time_accepted)
        finally:
            self._hold.is_wanted = False

    def _after_store(
        self, handle: Callable[..., Any], *args: Any, force: bool, **kwargs: Any
    ) -> Any:
        """Handle an end with the acknowledgement held back until it has been recorded."""
        hold, own = self._hold, cast(Any, self)
        if hold is None:
            return handle(*args, **kwargs)
        with hold:
            answer = handle(*args, **kwargs)
        if (hold.is_wanted or force) and not own.acknowledged:
            self._acknowledge_now()
        return answer

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Hear that a time limit was passed."""
        above: Any = super()
        return self._after_store(above.on_timeout, soft, timeout, force=not soft)

    def on_retry(self, exc_info: Any) -> Any:
        """Hear that the task asked for a retry: that message has been sent."""
        above: Any = super()
        return self._after_store(above.on_retry, exc_info, force=True)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """Hear that the task failed, or that its process died."""
        above: Any = super()
        if self._hold is not None and worker_state.should_terminate:
            return None  # a cold shutdown: left unacknowledged, the broker delivers it again
        return self._after_store(
            above.on_failure,
            exc_info,
            send_failed_event,
            return_ok,
            force=not cast(Any, self)._already_cancelled,
        )

    def revoked(self) -> bool:
        """Tell whether it is to be discarded; a turn never is: its orchestration is canceled."""
        own: Any = self
        if not self._is_turn:
            return bool(cast(Any, super()).revoked())
        if own.id in worker_state.revoked:
            worker_state.revoked.discard(own.id)
            _cancel(own.app, own.id, "revoked")
        return False


def _cancel(app: Celery, instance_id: str, reason: str) -> None:
    try:
        runtime_of(app).client.cancel(instance_id, reason)
    except Exception:
        log.exception("orchestration %r was revoked, but could not be asked to cancel", instance_id)


def watch_revoke(app: Celery) -> None:
    """Make the remote-control command ``revoke`` cancel orchestrations instead of poisoning their
    ids.
    """
    original = Panel.data["revoke"]
    if getattr(original, "_durable", False):
        return

    def revoke(state: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        ours = _instances_among(state.app, ids)
        for instance_id in ours:
            _cancel(state.app, instance_id, "revoked")
        rest = [other for other in ids if other not in ours]
        if rest or not ids:
            return original(state, rest if ids else task_id, *args, **kwargs)
        return {"ok": f"orchestrations asked to cancel: {', '.join(sorted(ours))}"}

    revoke._durable = True  # type: ignore[attr-defined]
    revoke.__doc__ = original.__doc__
    Panel.data["revoke"] = revoke


def _instances_among(app: Celery, ids: list[str]) -> set[str]:
    if not hasattr(app, "durable"):
        return set()
    try:
        found = runtime_of(app).store.reads.turn_addresses(
            [id_ for id_ in ids if ActivityAttemptId.parse(id_) is None]
        )
    except Exception:
        log.exception("cannot tell which of the revoked ids are orchestrations")
        return set()
    return {address.id for address in found}
