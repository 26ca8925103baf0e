"""Messages that reach the broker together: in one round trip, where kombu and the broker can do
that (kombu 5.7 on Redis).

Elsewhere, and whatever is not sent by the producer of the batch, each goes by itself, as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from celery import Celery

__all__ = ["Batch"]

log: logging.Logger = logging.getLogger("celery_durable.publisher")


class Batch:
    """What one thread sends together; ``close`` sends it."""

    def __init__(self) -> None:
        #: The tasks whose messages wait for the end of the batch, in their order.
        self.task_ids: list[str] = []
        #: Those of them that the broker did not take, and why.
        self.refused: dict[str, Exception] = {}
        self._producer: Any = None
        self._batch: Any = None
        self._was_opened = False
        self._stack = ExitStack()

    def producer(self, app: Celery) -> Any:
        """Return what to publish the next message by; None if it is to go by itself."""
        if not self._was_opened:
            self._was_opened = True
            producer = self._stack.enter_context(app.producer_or_acquire())
            if getattr(producer, "supports_batch_publish", False):
                self._batch = self._stack.enter_context(producer.batch())
                self._producer = producer
            else:
                self.close()
        return self._producer

    def close(self) -> None:
        """Send what waits, and give the producer back: its pool may have no other one."""
        self._was_opened, self._producer = True, None
        answers = _judged(self._batch)
        try:
            self._stack.close()
        except Exception as error:  # whatever the broker's client raises
            if _is_late(error):
                # it may well have taken them, and a copy of each would not make it faster: those
                # that it has not taken are found lost
                log.warning("the broker was slow to say whether it took messages: %s", error)
            else:
                self.refused = dict.fromkeys(self.task_ids, error)
        else:
            self._judge(answers)

    def _judge(self, answers: list[Any]) -> None:
        """Find the messages that were refused: the first command of each puts it on its queue."""
        if not self.task_ids or not answers:
            return
        commands = len(answers) // len(self.task_ids)
        for task_id, answer in zip(self.task_ids, answers[::commands], strict=False):
            if isinstance(answer, Exception):
                self.refused[task_id] = answer


def _is_late(error: BaseException | None) -> bool:
    """Tell whether an error is a time-out of the broker's client."""
    while error is not None:
        if type(error).__name__ == "TimeoutError":
            return True
        error = error.__cause__
    return False


def _judged(batch: Any) -> list[Any]:
    """Return a list that gets the answer to each command of one of kombu's batches.

    kombu 5.7 itself raises the first error, which says nothing of the other messages.
    """
    answers: list[Any] = []
    pipeline = getattr(getattr(getattr(batch, "state", None), "session", None), "pipeline", None)
    if pipeline is not None:
        execute: Callable[..., list[Any]] = pipeline.execute

        def each(*_: Any, **__: Any) -> list[Any]:
            answers.extend(execute(raise_on_error=False))
            return answers

        pipeline.execute = each
    return answers
