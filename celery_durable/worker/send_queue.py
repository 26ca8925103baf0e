"""Sending, and running at once instead what would be sent, with ``task_always_eager``."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery import Celery

__all__ = ["SendQueue"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")


class SendQueue:
    """How this thread sends: now, or in a queue of its own that it works off.

    Of each thread: ``queue`` is there while it works one off; ``is_forced`` while a block of
    ``at_once`` is open.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._eager = threading.local()

    @property
    def is_draining(self) -> bool:
        """Whether this thread runs at once what is sent, one thing after the other, and is at one
        of them.
        """
        return getattr(self._eager, "queue", None) is not None

    @property
    def is_eager(self) -> bool:
        """Whether this thread runs at once what is sent."""
        return getattr(self._eager, "is_forced", False) or bool(self._app.conf.task_always_eager)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Run in this thread whatever is sent in this block, and all that comes of it, before the
        block is left.
        """
        outer = getattr(self._eager, "is_forced", False), getattr(self._eager, "queue", None)
        self._eager.is_forced, self._eager.queue = True, deque()
        try:
            yield
            self._drain(self._eager.queue)
        finally:
            self._eager.is_forced, self._eager.queue = outer

    def deliver(self, send: Callable[[], None], what: str) -> Exception | None:
        """Send now, and return what went wrong.

        With ``task_always_eager`` after what runs already, so that nothing nests.
        """
        if not self.is_eager:
            return self._attempt(send, what)
        queue: deque[tuple[Callable[[], None], str]] | None = getattr(self._eager, "queue", None)
        if queue is not None:
            queue.append((send, what))
            return None
        self._eager.queue = queue = deque([(send, what)])
        try:
            self._drain(queue)
        finally:
            self._eager.queue = None
        return None

    def _drain(self, queue: deque[tuple[Callable[[], None], str]]) -> None:
        while queue:
            self._attempt(*queue.popleft())

    def _attempt(self, send: Callable[[], None], what: str) -> Exception | None:
        try:
            send()
        except Exception as error:
            log.warning(
                "%s could not be sent, recovery will: %s: %s", what, type(error).__name__, error
            )
            return error
        return None
