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
#: So many messages are one round trip.
_MOST = 500
#: More commands than these are: kombu would send those before by itself.
_NO_LIMIT = 1_000_000


class Batch:
    """What one thread sends together; ``close`` sends it."""

    def __init__(self) -> None:
        #: The tasks whose messages wait to be sent, in their order.
        self.task_ids: list[str] = []
        #: Those whose message the broker did not take, and why.
        self.refused: dict[str, Exception] = {}
        self._producer: Any = None
        self._batch: Any = None
        self._is_over = False
        self._stack = ExitStack()

    def producer(self, app: Celery) -> Any:
        """Return what to publish the next message by; None if it is to go by itself."""
        if len(self.task_ids) >= _MOST:
            self._send()
        if self._producer is None and not self._is_over:
            try:
                self._open(app)
            except BaseException:
                self.close()
                raise
        return self._producer

    def _open(self, app: Celery) -> None:
        producer = self._stack.enter_context(app.producer_or_acquire())
        if not getattr(producer, "supports_batch_publish", False):
            self.close()
            return
        self._batch = self._stack.enter_context(producer.batch(_NO_LIMIT))
        self._producer = producer

    def close(self) -> None:
        """Send what waits, and give the producer back: its pool may have no other one."""
        self._is_over = True
        self._send()

    def _send(self) -> None:
        answers = _collect_answers(self._batch)
        self._producer = self._batch = None
        try:
            self._stack.close()
        except Exception as error:  # whatever the broker's client raises
            if _is_late(error):
                # it may well have taken them, and a copy of each would not make it faster: those
                # that it has not taken are found lost
                log.warning("the broker was slow to say whether it took messages: %s", error)
            else:
                self.refused.update(dict.fromkeys(self.task_ids, error))
        else:
            self._judge(answers)
        self.task_ids.clear()

    def _judge(self, answers: list[Any]) -> None:
        """Find the messages that were refused: the first command of each puts it on its queue."""
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if not errors:
            return
        commands, rest = divmod(len(answers), len(self.task_ids))
        if rest or not commands:  # which answer is whose cannot be told
            self.refused.update(dict.fromkeys(self.task_ids, errors[0]))
            return
        for task_id, answer in zip(self.task_ids, answers[::commands], strict=True):
            if isinstance(answer, Exception):
                self.refused[task_id] = answer


def _is_late(error: BaseException | None) -> bool:
    """Tell whether an error is a time-out of the broker's client."""
    while error is not None:
        if type(error).__name__ == "TimeoutError":
            return True
        error = error.__cause__
    return False


def _collect_answers(batch: Any) -> list[Any]:
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
