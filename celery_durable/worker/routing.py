"""Where messages go, and what this process knows: answers without sending anything."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from celery.app.routes import MapRoute
from celery.exceptions import QueueNotFound
from kombu.entity import Queue
from kombu.exceptions import LimitExceeded, OperationalError, SerializationError

from ..core.names import checked_name
from ..engine.ports import Arguments, SendFailure
from ..engine.registry import Registry
from .context_headers import ContextHeaders
from .turn_queues import TurnQueues

__all__ = ["ROUTING", "CeleryRouting"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")
#: The options by which a message is routed.
ROUTING = ("queue", "routing_key", "exchange")


def _no_arguments() -> tuple[Sequence[Any], Mapping[str, Any]]:
    return (), {}


class CeleryRouting:
    """Answers for one app (``engine.ports.Routing``, without what depends on this thread)."""

    def __init__(
        self,
        app: Celery,
        registry: Registry,
        turn_queue: str | None = None,
        context_headers: Sequence[str] = (),
    ) -> None:
        self.app = app
        #: The headers that travel with an orchestration.
        self.context_headers: ContextHeaders = ContextHeaders(app, context_headers)
        self.registry = registry
        self.turn_queues: TurnQueues = TurnQueues(app, turn_queue)
        self._routes: dict[tuple[Any, ...], str | None] = {}

    def place(
        self, name: str, options: Mapping[str, Any], arguments: Arguments
    ) -> tuple[str | None, Mapping[str, Any]]:
        """Return the queue of an orchestration's messages, and its options, with all that a router
        says who looks at arguments.

        Such a router is asked here and never again: messages of turns have no arguments.

        Raises:
            Exception: what the router raises, or ``QueueNotFound``.
        """
        if not self.must_ask_each_time:
            return _checked_queue(self._known_route(name, options)), options
        found = self._ask(name, options, arguments)
        named = {
            key: getattr(found[key], "name", found[key])
            for key in found.keys() & {"queue", "exchange"}
        }
        return _checked_queue(named.get("queue")), {
            **found,
            **{key: each for key, each in options.items() if each is not None},
            **named,
        }

    def route(
        self, name: str, options: Mapping[str, Any], arguments: Arguments = _no_arguments
    ) -> str | None:
        """Return the queue that a task with these options goes to.

        None if that cannot be told beforehand.
        """
        try:
            if self.must_ask_each_time:
                queue = self._ask(name, options, arguments).get("queue")
            else:
                queue = self._known_route(name, options)
        except Exception:
            log.debug("cannot tell the queue of %s beforehand", name, exc_info=True)
            return None
        return _checked_queue(queue)

    @property
    def must_ask_each_time(self) -> bool:
        """Whether there is a router that may look at arguments: any that is no mapping from
        names.
        """
        routes = self.app.amqp.router.routes
        return bool(routes) and any(type(route) is not MapRoute for route in routes)

    def _known_route(self, name: str, options: Mapping[str, Any]) -> str | None:
        queue = options.get("queue")
        key = (
            options.get("route_name") or name,
            str(queue),
            options.get("routing_key"),
            str(options.get("exchange")),
        )
        if key not in self._routes:
            queue = (
                self._ask(name, options, _no_arguments).get("queue") or self.app.amqp.default_queue
            )
            self._routes[key] = str(getattr(queue, "name", queue))
        return self._routes[key]

    def _ask(self, name: str, options: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
        task = self.app.tasks.get(name)
        given = (
            {}
            if task is None
            else {key: getattr(task, key) for key in ROUTING if getattr(task, key, None)}
        )
        given |= {key: options[key] for key in ROUTING if options.get(key) is not None}
        args, kwargs = arguments()
        return dict(
            self.app.amqp.router.route(given, options.get("route_name") or name, args, kwargs, task)
        )

    def turn_queue_of(self, queue: str) -> str:
        """Return where the turn messages of this queue's orchestrations go."""
        return self.turn_queues.name_beside(queue)

    def turn_queue(self, name: str, options: Mapping[str, Any]) -> Queue | None:
        """Return the queue of a turn message, where it is not the one that Celery would send a task
        of this name and these options to.
        """
        queue = options.get("queue")
        if self.turn_queues.is_off or options.get("exchange") or options.get("routing_key"):
            return None
        if queue is None or not self.must_ask_each_time:
            queue = self._known_route(name, options)
        return (
            None if queue is None else self.turn_queues.beside(str(getattr(queue, "name", queue)))
        )

    def knows_task(self, name: str) -> bool:
        """Tell whether this process has the task."""
        return name in self.app.tasks

    def needs_messages(self, name: str) -> bool:
        """Tell whether each turn of this orchestrator needs a message: the application's task class
        wants to be around it, or handlers of ``task_prerun`` its headers.
        """
        if self.context_headers.names:
            return True
        return bool(getattr(self.app.tasks.get(name), "has_own_call", False))

    def classify(self, error: Exception) -> SendFailure:
        """Tell what an error of sending means; see ``Publisher``."""
        connection = self.app.connection_for_write()
        broken = (
            OperationalError,
            OSError,
            LimitExceeded,
            *connection.connection_errors,
            *connection.channel_errors,
        )
        if isinstance(error, broken):
            return SendFailure.PASSES
        is_final = isinstance(error, (SerializationError, QueueNotFound, TypeError, ValueError))
        return SendFailure.IS_FINAL if is_final else SendFailure.IS_ODD


def _checked_queue(queue: Any) -> str | None:
    return None if queue is None else checked_name(queue, "the name of a queue")
