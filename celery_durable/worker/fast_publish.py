"""Sending a plain task message without the parts of ``apply_async`` that it does not need.

Celery itself makes the first message of a kind, and hands it to a ``_Mould`` instead of a producer;
the others are cast from that. So settings, queues and routes mean what they mean to Celery.
Whatever else would see a message on Celery's own way (receivers of signals, a wrapped or overridden
function, a router, the result backend) has it sent that way: each function that is passed by is
looked at before each message, whether it is still Celery's own.
"""

from __future__ import annotations

import logging
import operator
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context
from datetime import timedelta
from types import MethodType
from typing import Any

import celery.app.amqp
import celery.app.base
import celery.app.routes
import celery.app.task
import celery.backends.base
from celery import Celery, signals
from celery.app.routes import MapRoute
from celery.utils.nodenames import anon_nodename
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_make_aware
from kombu.entity import Queue

from .batches import Batch
from .countdowns import has_quorum_queue
from .headers import sender_of
from .originals import is_celerys_own
from .redis_clients import keep_client
from .sending import own_send_task

__all__ = ["FastPublisher"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")

_VARYING = frozenset(
    {
        "task_id",
        "root_id",
        "parent_id",
        "headers",
        "ignore_result",
        "queue",
        "expires",
        "countdown",
        "time_limit",
        "serializer",
        "argsrepr",
        "kwargsrepr",
    }
)
_MADE_ANEW = frozenset({"id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "eta"})
_BEFORE, _AFTER, _SENT = signals.before_task_publish, signals.after_task_publish, signals.task_sent
_ROUTER = ("route", "lookup_route", "query_router", "expand_destination")


def _is_harmless(listen: Any) -> bool:
    """Tell whether a result backend need not hear that a task is called.

    That of Redis is for who waits by Celery's means.
    """
    redis = sys.modules.get("celery.backends.redis")  # it is there if the app has such a backend
    return is_celerys_own(celery.backends.base, "Backend.on_task_call", listen) or (
        redis is not None and is_celerys_own(redis, "RedisBackend.on_task_call", listen)
    )


class FastPublisher:
    """Publishes task messages of one app by its own pool of producers."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._casts: dict[tuple[Any, ...], _Cast] = {}
        self._open = threading.local()

    @contextmanager
    def together(self, what: str = "messages") -> Iterator[Batch]:
        """Let what this thread sends within a block reach the broker together.

        That ends where ``let_go`` is called, or a block begins inside. What became of the messages
        is said by the batch, after the block.
        """
        self.let_go()
        self._open.batch = batch = Batch()
        try:
            yield batch
        finally:
            self._open.batch = None
            batch.close()
        if refused := batch.refused:
            first = next(iter(refused.values()))
            log.warning("%d %s could not be sent, recovery will: %s", len(refused), what, first)

    def let_go(self) -> None:
        """Send what waits to be sent together: a message that Celery itself sends needs a producer,
        and the pool may have no other one.
        """
        if (batch := getattr(self._open, "batch", None)) is not None:
            batch.close()

    def send(
        self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> bool:
        """Send a message.

        False, with nothing sent, if ``apply_async`` would do more than send the same.

        The publisher's own business is not looked at here: that ``task_always_eager`` is off.

        Raises:
            Exception: whatever the broker's client or the serializer raises.
        """
        cast = self._cast(task, args, kwargs, options)
        if cast is None:
            return False
        cast.send(self._app, args, kwargs, options, getattr(self._open, "batch", None))
        return True

    def _cast(
        self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> _Cast | None:
        """Return what makes messages as Celery would make this one; None if it would do more."""
        queue = options.get("queue")
        if not (
            options.keys() <= _VARYING
            and options.get("expires") is None
            and isinstance(queue, str | Queue | None)
        ):
            return None
        if (
            _BEFORE.receivers
            or _AFTER.receivers
            or _SENT.receivers
            or self._app.conf.task_send_sent_event
        ):
            return None
        if not options["parent_id"] and self._app.conf.task_inherit_parent_priority:
            return None
        # such a one goes by another exchange, for each delay by a key of its own
        if options.get("countdown") and has_quorum_queue(self._app):
            return None
        passed = _passed(self._app, task, options)
        key = (
            task.name,
            getattr(queue, "name", queue),
            options["ignore_result"],
            options.get("time_limit"),
            options.get("serializer"),
        )
        cast = self._casts.get(key)
        if cast is None or not cast.holds(passed):
            if not _is_all_celerys_own(passed):
                return None
            mould = _Mould()
            try:
                # an orchestrator's own apply_async starts one
                send = sender_of(task)
                # in a context of its own: within a callback Celery would ask for more of a producer
                Context().run(
                    send,
                    args,
                    kwargs,
                    producer=mould,
                    add_to_parent=False,
                    **{**options, "headers": None},
                )
            except Exception:
                return None  # Celery says it when it sends
            cast = self._casts[key] = _Cast(mould, passed, self._app)
        return cast


class _Mould:
    """Stands for a producer, and keeps what Celery would publish by it."""

    def __init__(self) -> None:
        self.body: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    @property
    def connection(self) -> _Mould:
        """What it is connected to."""
        return self

    def _reraise_as_library_errors(self) -> AbstractContextManager[None]:
        return nullcontext()

    def publish(self, body: tuple[Any, ...], **options: Any) -> None:
        """Keep it."""
        self.body, self.options = body, options


class _Cast:
    """What the messages of a kind have in common."""

    def __init__(self, mould: _Mould, passed: tuple[Any, ...], app: Celery) -> None:
        options = dict(mould.options)
        self._passed = passed
        self._headers = {
            key: value for key, value in options.pop("headers").items() if key not in _MADE_ANEW
        }
        self._embed = mould.body[2]
        self._declare = list(options.pop("declare") or ())
        self._policy = options.pop("retry_policy")
        self._options = {
            key: value
            for key, value in options.items()
            if key not in ("correlation_id", "reply_to")
        }
        self._queues = app.amqp.queues
        self._sizes = {"args": app.amqp.argsrepr_maxsize, "kwargs": app.amqp.kwargsrepr_maxsize}

    def holds(self, passed: tuple[Any, ...]) -> bool:
        """Tell whether nothing that a message passes by is another one than before."""
        if len(passed) != len(self._passed) or not all(map(operator.is_, passed, self._passed)):
            return False
        return all(self._queues.get(each.name, each) is each for each in self._declare)

    def send(
        self,
        app: Celery,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any],
        batch: Batch | None,
    ) -> None:
        """Publish one more, together with a batch where there is one."""
        task_id, parent_id = options["task_id"], options["parent_id"]
        if not parent_id and (parent := app.current_worker_task) is not None:
            parent_id = parent.request.id
        headers = {
            **self._headers,
            "id": task_id,
            "root_id": options["root_id"] or task_id,
            "parent_id": parent_id,
            "argsrepr": options.get("argsrepr") or _shown(app, args, self._sizes["args"]),
            "kwargsrepr": options.get("kwargsrepr") or _shown(app, kwargs, self._sizes["kwargs"]),
            "origin": anon_nodename(),
            "eta": _eta(app, options.get("countdown")),
            **(options["headers"] or {}),
        }
        together = None if batch is None else batch.producer(app)
        with app.producer_or_acquire(together) as producer:
            connection = producer.connection
            known = () if connection is None else connection.declared_entities
            producer.publish(
                (args, kwargs, self._embed),
                headers=headers,
                correlation_id=task_id,
                reply_to=app.thread_oid,
                declare=[
                    each
                    for each in self._declare
                    if not each.can_cache_declaration or hash(each) not in known
                ],
                retry_policy=dict(self._policy),
                **self._options,
            )
            # not before: to publish is what connects, and tries again
            keep_client(producer.channel)
        if batch is not None and together is not None:
            batch.task_ids.append(task_id)


def _eta(app: Celery, countdown: float | None) -> str | None:
    """Return when a message is due, as Celery writes it."""
    if not countdown:
        return None
    due = app.now() + timedelta(seconds=countdown)
    return str(maybe_make_aware(due, tz=app.timezone).isoformat())


def _shown(app: Celery, value: Any, size: int) -> str:
    if not value:
        return "()" if isinstance(value, tuple) else "{}"
    levels = app.conf.get("task_repr_maxlevels")  # as of Celery 5.7
    return str(saferepr(value, size) if levels is None else saferepr(value, size, maxlevels=levels))


def _passed(app: Celery, task: Any, options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return all that a message meets on Celery's own way, and that may be another package's."""
    cls, amqp = type(task), _made(app, "amqp")
    router = _made(amqp, "router")
    way = type(router)
    return (
        task.__dict__.get("apply_async"),
        getattr(task, "sends_by", None) or cls.apply_async,
        cls.shadow_name,
        own_send_task(app),
        type(app).send_task,
        getattr(task, "_dump_pydantic_arguments", None),
        _made(amqp, "send_task_message"),
        _made(amqp, "create_task_message"),
        None if options["ignore_result"] else type(app.backend).on_task_call,
        way.route,
        way.lookup_route,
        way.query_router,
        way.expand_destination,
        router,
        amqp,
        _made(amqp, "queues"),
        cls,
        task._exec_options,
        *router.routes,
    )


def _made(owner: Any, name: str) -> Any:
    """Return a cached property, without what its descriptor costs."""
    found = owner.__dict__.get(name)
    return getattr(owner, name) if found is None else found


def _is_all_celerys_own(passed: tuple[Any, ...]) -> bool:
    own_apply, apply, shadow, own_send, send, dump, send_message, make_message, listen, *more = (
        passed
    )
    way, routes = more[:4], more[9:]
    return (
        own_apply is own_send is dump is None
        and is_celerys_own(celery.app.task, "Task.apply_async", apply)
        and is_celerys_own(celery.app.task, "Task.shadow_name", shadow)
        and is_celerys_own(celery.app.base, "Celery.send_task", send)
        and is_celerys_own(
            celery.app.amqp, "AMQP._create_task_sender.<locals>.send_task_message", send_message
        )
        and type(make_message) is MethodType
        and is_celerys_own(celery.app.amqp, "AMQP.as_task_v2", make_message.__func__)
        and all(
            is_celerys_own(celery.app.routes, f"Router.{name}", each)
            for name, each in zip(_ROUTER, way, strict=True)
        )
        and all(type(route) is MapRoute for route in routes)
        and (listen is None or _is_harmless(listen))
    )
