"""Messages that reach the broker together: in one round trip, where kombu and the broker can do
that (kombu 5.7 on Redis).

Elsewhere, and whatever is not sent by the producer of the batch, each goes by itself, as ever.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from celery import Celery

__all__ = ["Batch"]


class Batch:
    """What one thread sends together; ``close`` sends it."""

    def __init__(self) -> None:
        #: The tasks whose messages wait for the end of the batch, or have failed with it.
        self.task_ids: list[str] = []
        #: Why the broker has not taken them: none of them, some or all may have been sent.
        self.error: Exception | None = None
        self._producer: Any = None
        self._is_over = False
        self._stack = ExitStack()

    def producer(self, app: Celery) -> Any:
        """Return what to publish the next message by; None if it is to go by itself."""
        if self._producer is None and not self._is_over:
            producer = self._stack.enter_context(app.producer_or_acquire())
            if getattr(producer, "supports_batch_publish", False):
                self._stack.enter_context(producer.batch())
                self._producer = producer
            else:
                self.close()
        return self._producer

    def close(self) -> None:
        """Send what waits, and give the producer back: its pool may have no other one."""
        self._is_over, self._producer = True, None
        try:
            self._stack.close()
        except Exception as error:  # whatever the broker's client raises
            self.error = error
