"""Message headers that travel with an orchestration: captured at its start, and kept in all of its
messages, whatever hooks of the sending process add.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, NoReturn

from celery import Celery
from celery.exceptions import AlwaysEagerIgnored

from .headers import header_in, sender_of
from .sending import plain_send_task

__all__ = ["ContextHeaders", "look_instead"]

#: The header by which a task that would be run here gives its headers instead.
LOOKING = "durable_looking"

#: What of the options of a start says where and how its message is sent.
_WAY = ("queue", "exchange", "routing_key", "priority", "serializer", "task_id", "shadow")


class _Seen(BaseException):
    """Ends a sending once the message is made: nothing of it is sent."""


class _Looking:
    """Stands for a producer; takes the headers of the message and ends the sending."""

    serializer = None

    def __init__(self) -> None:
        self.headers: Mapping[str, Any] = {}

    @property
    def connection(self) -> _Looking:
        """What it is connected to."""
        return self

    def _reraise_as_library_errors(self) -> AbstractContextManager[None]:
        return nullcontext()

    def publish(self, body: Any, *, headers: Mapping[str, Any] | None = None, **_: Any) -> NoReturn:
        """Look at a message."""
        self.headers = headers or {}
        raise _Seen


def look_instead(headers: Mapping[str, Any] | None) -> None:
    """End the running of a task whose headers alone are looked at."""
    looking = (headers or {}).get(LOOKING)
    if isinstance(looking, _Looking):
        looking.headers = {name: each for name, each in (headers or {}).items() if name != LOOKING}
        raise _Seen


class _Keeping:
    """A producer whose messages have some headers, whatever was put in their place."""

    def __init__(self, producer: Any, kept: Mapping[str, Any]) -> None:
        self._producer, self._kept = producer, kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(
        self, body: Any, *args: Any, headers: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish a message."""
        return self._producer.publish(
            body, *args, headers={**(headers or {}), **self._kept}, **options
        )


class ContextHeaders:
    """The headers of one application that travel: ``durable_propagate``."""

    def __init__(self, app: Celery, names: Sequence[str]) -> None:
        self._app = app
        self.names: Sequence[str] = tuple(names)

    def captured(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the headers that a message of this task, sent here and now, would have.

        Handlers of ``before_task_publish`` are called with that message, and an application's own
        ``apply_async`` and ``send_task`` are asked; nothing is sent.

        Raises:
            Exception: what any of these raises.
        """
        if not self.names:
            return {}
        given = options.get("headers") or {}
        sent = self._sent(task, args, kwargs, options)
        found: dict[str, Any] = {}
        for name in self.names:
            for value in (given.get(name), sent.get(name), self._of_running_task(name)):
                if value is not None:
                    found[name] = value
                    break
        return found

    def _sent(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        looking = _Looking()
        way = {name: options[name] for name in _WAY if options.get(name) is not None}
        headers = dict(options.get("headers") or {})
        own = {**way, "producer": looking, "ignore_result": True}
        body = tuple(args), dict(kwargs)
        with suppress(_Seen):
            if not self._app.conf.task_always_eager:
                sender_of(task)(*body, add_to_parent=False, headers=headers, **own)
            else:
                if hasattr(task, "publish"):  # any other would run its body
                    headers = self._sent_eagerly(task, *body, headers, own)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", AlwaysEagerIgnored)
                    plain_send_task(self._app)(task.name, *body, headers=headers, **own)
        return looking.headers

    def _sent_eagerly(
        self,
        task: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        headers: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the headers with which an ``apply_async`` of the application's would run the task
        here, as Celery does with ``task_always_eager``.
        """
        looking = _Looking()
        with suppress(_Seen):
            task.publish(
                args, kwargs, add_to_parent=False, headers={**headers, LOOKING: looking}, **own
            )
        return dict(looking.headers or headers)

    def _of_running_task(self, name: str) -> Any:
        running = self._app.current_worker_task
        return None if running is None else header_in(running.request, name)

    def of_message(self, request: Any) -> Mapping[str, Any]:
        """Return those that a start message has, which another process has sent."""
        found = {name: header_in(request, name) for name in self.names}
        return {name: value for name, value in found.items() if value is not None}

    @contextmanager
    def kept(self, options: dict[str, Any]) -> Iterator[None]:
        """Send within the block by ``options`` to which a producer is added that keeps the headers
        in them.
        """
        headers = options.get("headers") or {}
        kept = {name: headers[name] for name in self.names if name in headers}
        if not kept:
            yield
            return
        with self._app.producer_or_acquire() as producer:
            options["producer"] = _Keeping(producer, kept)
            try:
                yield
            finally:
                del options["producer"]
