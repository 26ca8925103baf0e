"""Tasks that are paused by themselves: after so many failed attempts in a time, over all workers.

The count is one row for each such task, written when an attempt has failed and at no other time.
A process that dies between the record of a failure and its count leaves one failure out: a count
that is one too low pauses a moment later, while one too high would pause what works.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .._errors import ConfigurationError, StoreError
from ..core.pause_after import PauseAfter
from .parts import Parts
from .switches import SwitchKind

__all__ = ["Breakers"]

log: logging.Logger = logging.getLogger("celery_durable.flow")
_LONGEST_ERROR = 200


@dataclass(slots=True)
class Breakers:
    """Counts failures in this process, and pauses what fails too often."""

    parts: Parts

    def note_failure(self, task: str, error: BaseException) -> None:
        """Count an attempt of a task that has failed, if the task is to be paused after some.

        What fails here is logged: the outcome itself is recorded.
        """
        try:
            rule = self.parts.tasks.pause_after_of(task)
            if rule is not None:
                self._count(task, rule, error)
        except (StoreError, ConfigurationError):
            log.warning("a failure of task %r could not be counted", task, exc_info=True)

    def _count(self, task: str, rule: PauseAfter, error: BaseException) -> None:
        board = self.parts.switches
        if board.current().pause(SwitchKind.TASK, task) is not None:
            return  # what had begun before the pause says nothing new
        reason = _reason(rule, error)
        pause = self.parts.store.switches.count_failure(
            task, rule.failures, rule.window, rule.length, reason
        )
        if pause is not None:
            log.warning("task %r is %s", task, reason)
            board.refresh()


def _reason(rule: PauseAfter, error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if len(text) > _LONGEST_ERROR:
        text = f"{text[:_LONGEST_ERROR]}..."
    seconds = f"{rule.window / 1_000_000:g}"
    return f"paused by itself: {rule.failures} failures in {seconds} s; the last: {text}"
