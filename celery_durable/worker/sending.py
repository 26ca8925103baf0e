"""``app.send_task``: of a durable task it is a durable start, as ``.delay()`` is.

What Celery and the engine themselves send by it goes past that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import FunctionType
from typing import Any

from celery import Celery

__all__ = ["NamedTask", "own_send_task", "plain_send_task", "watch_sending"]

#: The parameters of ``Celery.send_task`` after those of the task.
_POSITIONS = (
    "countdown",
    "eta",
    "task_id",
    "producer",
    "connection",
    "router",
    "result_cls",
    "expires",
    "publisher",
    "link",
    "link_error",
)


#: Whether a message is to be sent, whatever task it is of.
_is_plain: ContextVar[bool] = ContextVar("celery_durable_plain", default=False)


class NamedTask:
    """A plain task whose code this process does not have: it can be started by its name."""

    typing = False
    expires = None
    ignore_result = False

    def __init__(self, app: Celery, name: str) -> None:
        self.app = app
        self.name = name

    @property
    def backend(self) -> Any:
        """Where Celery stores results."""
        return self.app.backend

    def publish(self, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any) -> Any:
        """Send a message of the task as it is."""
        return plain_send_task(self.app)(self.name, args, kwargs, **options)


def watch_sending(app: Celery, start: Callable[..., Any | None]) -> None:
    """Let ``app.send_task`` ask first; safe to call again.

    Args:
        app: the app.
        start: is called with the app, the name, the arguments and the options, and returns what it
            has started; None lets a message be sent.
    """
    own = app.__dict__.get("send_task")
    if _is_ours(own):
        return

    def send_task(
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """Send a message, or start a durable task; see ``celery.Celery.send_task``."""
        if options.get("task_type") is None and not _is_plain.get():  # apply_async gives the first
            options = {**dict(zip(_POSITIONS, more, strict=False)), **options}
            more = ()
            started = start(app, name, args or (), kwargs or {}, options)
            if started is not None:
                return started
        below = _of_class(app) if own is None else own
        return below(name, args, kwargs, *more, **options)

    send_task.durable_own = own  # type: ignore[attr-defined]
    app.send_task = send_task


def own_send_task(app: Celery) -> Any:
    """Return what an app has in the place of its class's ``send_task``, beside ours; or None."""
    found = app.__dict__.get("send_task")
    return found.durable_own if _is_ours(found) else found


def plain_send_task(app: Celery) -> Any:
    """Return what sends a message, whatever task it is of."""
    own = own_send_task(app)
    if own is None:
        return _of_class(app)

    def send(*args: Any, **options: Any) -> Any:
        token = _is_plain.set(True)  # what another package has put there may lead to ours
        try:
            return own(*args, **options)
        finally:
            _is_plain.reset(token)

    return send


def _of_class(app: Celery) -> Any:
    found = inspect.getattr_static(type(app), "send_task")
    bind = getattr(type(found), "__get__", None)  # what another package has put there may have none
    return found if bind is None else bind(found, app, type(app))


def _is_ours(found: Any) -> bool:
    """Tell our function from what another package has put around it, which may look the same."""
    return isinstance(found, FunctionType) and "durable_own" in vars(found)
