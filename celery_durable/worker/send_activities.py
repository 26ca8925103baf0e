"""Sending activities to Celery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from celery import Celery
from celery.app.task import extract_exec_options
from celery.exceptions import Retry

from ..encoding import Foreign, unmistakable
from ..encryption import Codec
from ..engine.records import ActivityAttemptId, ActivityRow
from ..engine.store_ports import Store
from ..errors import PayloadError
from ..payload import PayloadCodec
from .context_headers import ContextHeaders
from .fast_publish import FastPublisher
from .headers import HEADER, MessageHeader, sender_of, store_tag
from .sealing import is_sealed_by, seal, serializer_of
from .send_queue import SendQueue
from .tracing import Tracing

__all__ = ["ActivitySender"]


class ActivitySender:
    """Sends the activities of one app's orchestrations."""

    def __init__(
        self,
        app: Celery,
        store: Store,
        codec: PayloadCodec,
        queue: SendQueue,
        light: FastPublisher,
        send: Callable[[ActivityRow], None],
        context_headers: ContextHeaders,
        *,
        stores_results: bool,
    ) -> None:
        self.app = app
        self.store = store
        self.codec = codec
        #: Makes the sending visible to a tracer; None without one.
        self.tracing: Tracing | None = None
        self._queue = queue
        self._light = light
        self._send = send
        self._context_headers = context_headers
        self._stores_results = stores_results
        #: Encodes arguments in messages; None where they are sent as they are.
        self.message_codec: Codec | None = None

    def publish(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        """Send activities; see ``engine.ports.Publisher.publish_activities``."""
        if len(rows) == 1 or self._queue.is_eager:
            return self._each(rows)
        # the first by itself: Celery connects by that, again if it must
        failed = self._each(rows[:1])
        with self._light.together("activities") as batch:
            failed |= self._each(rows[1:])
        if refused := batch.refused:
            tickets = [row.ticket for row in rows]
            failed |= {each: refused[each.task_id] for each in tickets if each.task_id in refused}
        return failed

    def _each(self, rows: Sequence[ActivityRow]) -> dict[ActivityAttemptId, Exception]:
        failed: dict[ActivityAttemptId, Exception] = {}
        for row in rows:
            error = self._queue.deliver(
                partial(self._send, row), f"activity {row.name} of {row.instance!r}"
            )
            if error is not None:
                failed[row.ticket] = error
        return failed

    def send(self, row: ActivityRow) -> None:
        """Hand one activity to the broker.

        Raises:
            Exception: whatever Celery or the broker's client raises.
        """
        args, kwargs, options = (
            row.signature if row.signature is not None else self._stored_signature(row)
        )
        root_id = row.root_id or row.instance
        options = dict(options)
        headers = {
            **(options.pop("headers", None) or {}),
            HEADER: MessageHeader("activity", store_tag(self.store.id), row.sends).to_wire(),
        }
        options.setdefault("ignore_result", not self._stores_results)
        options.update(
            task_id=row.ticket.task_id, root_id=root_id, parent_id=row.instance, headers=headers
        )
        task = self.app.tasks.get(row.name)
        serializer = serializer_of(self.app, task, options)
        if Foreign.MARK in row.message and serializer == "json":
            args = [unmistakable(each) for each in args]
            kwargs = {name: unmistakable(each) for name, each in kwargs.items()}
        if self.message_codec is None or self._queue.is_draining:
            self._send_to(task, row, args, kwargs, options)
            return
        seal(options, serializer)
        with is_sealed_by(self.message_codec):
            self._send_to(task, row, args, kwargs, options)

    def _send_to(
        self,
        task: Any,
        row: ActivityRow,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: dict[str, Any],
    ) -> None:
        if (
            task is not None
            and not self._queue.is_draining
            and self._light.send(task, tuple(args), dict(kwargs), options)
        ):
            return
        self._light.let_go()
        headers = options["headers"]
        tracing = nullcontext() if self.tracing is None else self.tracing.sending(headers)
        with tracing, self._context_headers.kept(options):
            if task is None:
                self.app.send_task(row.name, tuple(args), dict(kwargs), **options)
                return
            with _sent_although_refused(task, args, kwargs, options, self._queue):
                if self._queue.is_draining:
                    self._run_activity(task, row.ticket, tuple(args), dict(kwargs), options)
                else:
                    sender_of(task)(tuple(args), dict(kwargs), **options)

    def _stored_signature(
        self, row: ActivityRow
    ) -> tuple[Sequence[Any], Mapping[str, Any], Mapping[str, Any]]:
        match self.codec.decode(row.message):
            case [str(payload), dict(options)]:
                match self.codec.decode(payload):
                    case [list(args) | tuple(args), dict(kwargs)]:
                        return args, kwargs, options
        raise PayloadError(
            f"the message of activity {row.ticket.task_id} ({row.name}) of {row.instance!r} is"
            " damaged"
        )

    def _run_activity(
        self,
        task: Any,
        ticket: ActivityAttemptId,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        """Run an activity here.

        What its body raises is in the store already, and concerns no other code.

        Celery runs what ``self.retry()`` asks for as well, but with ``task_eager_propagates`` it
        raises ``Retry`` instead.
        """
        run = sender_of(task) if self.app.conf.task_always_eager else task.apply
        run = partial(run, args, kwargs, throw=False, **options)
        while True:
            try:
                run()
                return
            except Retry as retry:
                if retry.sig is None:
                    raise
                run = partial(retry.sig.apply, retries=retry.sig.options["retries"], throw=False)
            except Exception:
                if self.store.attempts.find_instance_of(ticket) is not None:
                    raise
                return


@contextmanager
def _sent_although_refused(
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    queue: SendQueue,
) -> Iterator[None]:
    """Send arguments that ``apply_async`` refuses here: the body refuses them in the worker, and
    that is an outcome.

    Without it nothing would ever be sent, and the orchestration would wait for it for ever.
    """
    try:
        yield
    except TypeError:
        if _takes(task, args, kwargs):
            raise
        if queue.is_draining:
            task.apply(tuple(args), dict(kwargs), **{**options, "throw": False})
        else:
            task.app.send_task(
                task.name, tuple(args), dict(kwargs), **{**extract_exec_options(task), **options}
            )


def _takes(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a task takes these arguments, by the check that ``apply_async`` makes."""
    header = getattr(task, "__header__", None)
    if header is None or not task.typing:
        return True
    try:
        header(*args, **kwargs)
    except TypeError:
        return False
    return True
