"""Sending a plain task message without the parts of ``apply_async`` that it does not need.

Used only where the result is the same: a direct queue that was declared before, no router, no countdown, no signal
receivers, no ``apply_async`` of the user's own. Anything else goes Celery's own way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from celery import Celery, Task, signals
from celery.utils.nodenames import anon_nodename
from celery.utils.saferepr import saferepr

from .backend import is_rpc

__all__ = ["LightSender"]

_PLAIN = frozenset({"task_id", "root_id", "parent_id", "headers", "ignore_result", "queue", "expires", "time_limit"})
_UNUSUAL = ("exchange", "routing_key", "compression", "expires", "immediate", "mandatory")


class LightSender:
    """Publishes task messages of one app by its own pool of producers."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._declared: set[tuple[int, str]] = set()
        self._simple: dict[str, bool] = {}
        self._original = Task.apply_async

    def can_send(self, task: Any, options: Mapping[str, Any]) -> bool:
        """Tell whether a message with these options may go this way."""
        if not options.keys() <= _PLAIN or options.get("expires") is not None:
            return False
        if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
            return False
        if task.name not in self._simple:
            self._simple[task.name] = self._is_simple(task)
        return self._simple[task.name]

    def _is_simple(self, task: Any) -> bool:
        conf = self._app.conf
        return (
            (hasattr(task, "publish") or type(task).apply_async is self._original)
            and self._original.__module__ == "celery.app.task"
            and not conf.task_always_eager
            and not conf.task_send_sent_event
            and not conf.task_routes
            and conf.task_protocol == 2
            and not any(getattr(task, name, None) for name in _UNUSUAL)
            and not is_rpc(self._app.backend)
        )

    def send(
        self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any], queue: str | None
    ) -> None:
        """Send a message for which ``can_send`` was true."""
        key = (os.getpid(), queue or "")
        if queue is None or key not in self._declared or not self._is_direct(queue):
            getattr(task, "publish", task.apply_async)(args, kwargs, **options)
            self._declared.add(key)
            return
        app, task_id = self._app, options["task_id"]
        headers = {
            "lang": "py", "task": task.name, "id": task_id, "shadow": None, "eta": None, "expires": None, "group": None,
            "group_index": None, "retries": 0, "timelimit": [options.get("time_limit", task.time_limit), task.soft_time_limit],
            "root_id": options["root_id"], "parent_id": options["parent_id"], "argsrepr": saferepr(args, 1024) if args else "()",
            "kwargsrepr": saferepr(kwargs, 1024) if kwargs else "{}", "origin": anon_nodename(),
            "ignore_result": options["ignore_result"],
            "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}, **options["headers"],
        }  # fmt: skip
        body = (args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
        conf = app.conf
        with app.producer_pool.acquire(block=True) as producer:
            producer.publish(
                body, exchange="", routing_key=queue, serializer=task.serializer or conf.task_serializer, headers=headers,
                correlation_id=task_id, delivery_mode=conf.task_default_delivery_mode,
                priority=task.priority if task.priority is not None else conf.task_default_priority,
                retry=conf.task_publish_retry, retry_policy=dict(conf.task_publish_retry_policy),
            )  # fmt: skip

    def _is_direct(self, queue: str) -> bool:
        found = self._app.amqp.queues.get(queue)
        return found is not None and (found.exchange is None or found.exchange.type == "direct")
