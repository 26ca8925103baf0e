"""How a worker's main process holds durable messages.

An activity's message is acknowledged as soon as the store knows who runs it, or has its outcome: not before, or a crash
would lose it; not much later, or the broker's own time-outs would double it. A turn message is never discarded as revoked:
the wish is passed on to the orchestration. Ordinary messages of the same tasks keep their behaviour.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Retry
from celery.utils.imports import symbol_by_name
from celery.worker import state as worker_state
from celery.worker.control import Panel

from ..engine.records import ActivityTicket
from .runtime import OutcomeLost, runtime_of

__all__ = ["hold_messages", "watch_revoke"]

log = logging.getLogger("celery_durable.request")
_classes: dict[type, type] = {}


def hold_messages(app: Celery) -> None:
    """Give every registered task a request class that knows durable messages; safe to call again."""
    for task in list(app._tasks.values()):
        cls = type(task)
        if "_durable_request" not in cls.__dict__:
            cls.Request = durable_request(cls.Request)
            cls._durable_request = True
            if hasattr(cls, "durable_versions"):
                cls.durable_send_events = cls.send_events  # turns are not news: see the announcer
                cls.send_events = False
        if getattr(cls, "at_most_once", False):
            # only the body itself may ask to be run again
            cls.retry_on_worker_lost = cls.reject_on_worker_lost = False


def durable_request(base: Any) -> type:
    """Return a subclass of a request class that holds back the acknowledgement of activities."""
    base = symbol_by_name(base)
    if base not in _classes:
        _classes[base] = _make(base)
    return _classes[base]


def _make(base: type) -> type:
    class DurableRequest(base):  # type: ignore[misc,valid-type]
        durable_ticket: ActivityTicket | None = None
        _is_turn = _is_late = _is_held = _wants_ack = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            header = self._request_dict.get("durable")
            self.durable_ticket = ActivityTicket.parse(self.id)
            self._is_turn = isinstance(header, dict) and header.get("t") in ("turn", "finish")
            self._is_late = self.durable_ticket is not None and not self.task.acks_late
            if self._is_late:
                inner: Any = self.on_success  # type: ignore[has-type]  # a pool's own request class overrides the method: shadow it here

                def on_success(failed__retval__runtime: Any, **options: Any) -> Any:
                    answer = inner(failed__retval__runtime, **options)
                    if not failed__retval__runtime[0]:
                        self.acknowledge()
                    return answer

                self.on_success = on_success

        def acknowledge(self) -> None:
            if self._is_held:
                self._wants_ack = True
            else:
                super().acknowledge()

        def acknowledge_held(self) -> None:
            """Acknowledge now: the store knows who runs it."""
            if self._is_late and not self.acknowledged:
                super().acknowledge()

        def on_accepted(self, pid: int, time_accepted: float) -> None:
            self._is_held = self._is_late
            try:
                super().on_accepted(pid, time_accepted)
            finally:
                self._is_held = self._wants_ack = False

        def _after_store(self, handle: Callable[..., Any], *args: Any, force: bool, **kwargs: Any) -> Any:
            """Handle an end with the acknowledgement held back until it has been recorded."""
            if not self._is_late:
                return handle(*args, **kwargs)
            self._is_held = True
            try:
                answer = handle(*args, **kwargs)
            finally:
                self._is_held = False
            if (self._wants_ack or force) and not self.acknowledged:
                super().acknowledge()
            return answer

        def on_timeout(self, soft: bool, timeout: float) -> Any:
            return self._after_store(super().on_timeout, soft, timeout, force=not soft)

        def on_retry(self, exc_info: Any) -> Any:
            return self._after_store(super().on_retry, exc_info, force=True)

        def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
            self._look_after(exc_info.exception)
            if self._is_late and worker_state.should_terminate:
                return None  # a cold shutdown: left unacknowledged, the broker delivers it again
            return self._after_store(
                super().on_failure, exc_info, send_failed_event, return_ok, force=not self._already_cancelled
            )

        def _look_after(self, error: Any) -> None:
            """Have it found out whether an activity that must not run again ended without an outcome."""
            error = getattr(error, "exc", error)
            if self.durable_ticket is None or not getattr(self.task, "at_most_once", False):
                return
            if isinstance(error, OutcomeLost) or not isinstance(error, (Ignore, Retry)):
                runtime_of(self.app).lost.append(self.durable_ticket)

        def revoked(self) -> bool:
            if not self._is_turn:
                return bool(super().revoked())
            if self.id in worker_state.revoked:
                worker_state.revoked.discard(self.id)
                _cancel(self.app, self.id, "revoked")
            return False

    DurableRequest.__name__ = f"Durable{base.__name__}"
    return DurableRequest


def _cancel(app: Celery, instance_id: str, reason: str) -> None:
    try:
        runtime_of(app).client.cancel(instance_id, reason)
    except Exception:
        log.exception("orchestration %r was revoked, but could not be asked to cancel", instance_id)


def watch_revoke(app: Celery) -> None:
    """Make the remote-control command ``revoke`` cancel orchestrations instead of poisoning their ids."""
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
        found = runtime_of(app).store.turn_addresses([id_ for id_ in ids if ActivityTicket.parse(id_) is None])
    except Exception:
        log.exception("cannot tell which of the revoked ids are orchestrations")
        return set()
    return {address.id for address in found}
