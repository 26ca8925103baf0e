"""The end of an orchestration, as Celery hears of it: result, callbacks, handlers.

Where a worker must take part, a last message is sent; else the result is stored from here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend

from ..core.canvas_options import CanvasOptions
from ..core.plain_task import CARRIER, carrier_of
from ..core.status import RuntimeStatus
from ..engine.listing import InstanceRecord
from ..engine.records import ActivityAttemptId, ActivityRow, TurnAddress
from ..engine.store_ports import Store
from ..errors import DurableError, PayloadError
from ..payload import PayloadCodec
from .ends import is_heard, log_failure, shown_arguments, store_end
from .headers import HEADER, MessageHeader, store_tag
from .reported_ends import ReportedEnds
from .send_queue import SendQueue

__all__ = ["Finisher"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")
_MOST_TRIES = 30  # to notify Celery of an end: about a day, with the intervals of recovery


class Finisher:
    """Notifies Celery of the ends of one app's orchestrations."""

    def __init__(
        self,
        app: Celery,
        store: Store,
        codec: PayloadCodec,
        queue: SendQueue,
        send: Callable[[TurnAddress, CanvasOptions, MessageHeader], None],
    ) -> None:
        self.app = app
        self.store = store
        self.codec = codec
        #: The name of this worker, which an extended result shows; None in a client.
        self.hostname: str | None = None
        self._queue = queue
        self._send = send
        self._reported = ReportedEnds(store)

    def needs_finish(self, name: str, canvas: str | None, status: RuntimeStatus) -> bool:
        """Tell whether Celery must be notified of such an end.

        It must if the options cannot be read: they may be readable after a repair.
        """
        try:
            kept = CanvasOptions.read(self.codec, canvas)
        except PayloadError:
            return True
        return self._is_heard(name, kept, status) or self._has_result(kept)

    #: Whether ends are told to Celery's result backend.
    stores_results = True

    def _has_result(self, canvas: CanvasOptions) -> bool:
        if not self.stores_results:
            return False
        is_kept = not canvas.ignores_result and not isinstance(self.app.backend, DisabledBackend)
        return is_kept or bool(canvas.reply)

    def _is_heard(self, name: str, canvas: CanvasOptions, status: RuntimeStatus) -> bool:
        """Tell whether the end needs a worker: there are callbacks, or a handler listens."""
        return bool(canvas.finish) or is_heard(self.app.tasks.get(name), status)

    def finish(
        self,
        address: TurnAddress,
        execution: str,
        status: RuntimeStatus,
        output: str | None,
        failure: str | None,
        reason: str | None,
    ) -> None:
        """Send the last message where callbacks or handlers wait for it.

        Else store the result, and log a failure.
        """
        payloads = {"output": output, "failure": failure, "reason": reason}

        def notify() -> None:
            self._notify(address, execution, status, payloads)

        if (error := self._queue.deliver(notify, f"end of {address.id!r}")) is not None:
            with suppress(DurableError):
                self.store.attempts.note_refusal(
                    ActivityAttemptId(execution, 0, 0), _in_words(error)
                )

    def _log_failure(
        self, address: TurnAddress, status: RuntimeStatus, failure: str | None
    ) -> None:
        if status is RuntimeStatus.FAILED:
            shown = self._as_shown(address)
            log_failure(self.app.tasks.get(shown.name), self.codec, shown, failure)

    def _as_shown(self, address: TurnAddress) -> TurnAddress:
        """Return an address with the name that people know: a plain task's own."""
        if address.name != CARRIER:
            return address
        record = self.store.reads.fetch(address.id)
        return address if record is None else replace(address, name=record.name)

    def finish_again(self, row: ActivityRow) -> None:
        """Notify Celery of an end once more: it may not have heard of it.

        After a day of refusals that is given up.
        """
        record, execution = self.store.reads.fetch(row.instance), row.ticket.execution
        if record is None or record.execution != execution or not record.status.is_terminal:
            self.store.recovery.drop_finish(row.instance, execution)
            return
        if row.sends < _MOST_TRIES:
            if (error := self.finish_owed(record, tries=max(1, row.sends))) is not None:
                self.store.attempts.note_refusal(row.ticket, _in_words(error))
            return
        owed = self.store.reads.owed_end(execution)
        log.error(
            "Celery is not told of the end of orchestration %r, which is %s: that was tried %d"
            " times, in vain; the last refusal: %s. Its AsyncResult may say nothing, and callbacks"
            " may not be called; durable.get() knows its end",
            record.id,
            record.status,
            row.sends,
            (owed and owed.refusal) or "none is known",
        )
        self.store.recovery.drop_finish(row.instance, execution)

    def finish_owed(self, record: InstanceRecord, *, tries: int = 1) -> Exception | None:
        """Tell Celery of an end once more; return what went wrong."""
        name = carrier_of(record.name, record.version)
        address = TurnAddress(record.id, name, record.queue, record.canvas, record.root_id)
        payloads = {"output": record.output, "failure": record.failure, "reason": record.reason}
        return self._queue.deliver(
            lambda: self._notify(address, record.execution, record.status, payloads, tries),
            f"end of {address.id!r}",
        )

    def _notify(
        self,
        address: TurnAddress,
        execution: str,
        status: RuntimeStatus,
        payloads: Mapping[str, str | None],
        tries: int = 0,
    ) -> None:
        header = MessageHeader("finish", store_tag(self.store.id), tries, execution)
        is_heard = False
        try:
            canvas = CanvasOptions.read(self.codec, address.canvas)
            is_heard = self._is_heard(address.name, canvas, status)
        finally:
            if not (is_heard or tries):  # nor does Celery's tracer log it
                self._log_failure(address, status, payloads["failure"])
        if is_heard:
            self._send(address, canvas, header)
            return
        if self._has_result(canvas):
            task = self.app.tasks.get(address.name)
            backend = task.backend if task is not None else self.app.backend
            store_end(
                backend, self.codec, address, status, payloads, self._about(address, canvas, header)
            )
            if self.hostname is not None and status is RuntimeStatus.COMPLETED:
                self._reported.add(address.id, execution)  # it has no end but this one
            else:
                self.store.recovery.drop_finish(address.id, execution)
        elif tries:
            # the handler that listened does so no more
            self.store.recovery.drop_finish(address.id, execution)

    def _about(
        self, address: TurnAddress, canvas: CanvasOptions, header: MessageHeader
    ) -> dict[str, Any]:
        """Return what a worker's request of the last message would know."""
        reply, given = canvas.reply, canvas.options.get("headers") or {}
        about = {
            **given,
            "correlation_id": reply.get("correlation_id") or address.id,
            "reply_to": reply.get("reply_to"),
            "headers": {**given, HEADER: header.to_wire()},
        }
        if self.app.conf.find_value_for_key("extended", "result"):
            record = self.store.reads.fetch(address.id)
            if record is not None:
                about |= {**shown_arguments(self.codec, record), "task": record.name}
            about["hostname"] = self.hostname
            about["delivery_info"] = {"routing_key": address.queue}
        return about


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:1_000]
