"""What the body of an attempt does and gives: how long it runs, and its outcome, encoded."""

from __future__ import annotations

import time
from typing import Any

from billiard.process import current_process

from ..core.endings import is_own
from ..engine.records import ActivityAttemptId, Outcome
from ..errors import PayloadError
from .headers import header_in
from .runtime import Runtime

__all__ = ["BodyRun"]


class BodyRun:
    """One run of a body."""

    def __init__(self, runtime: Runtime, task: Any, ticket: ActivityAttemptId) -> None:
        self._runtime = runtime
        self._task = task
        self._ticket = ticket
        #: When it began and ended, in nanoseconds; 0 is not yet.
        self.began = self.ended = 0
        #: Signatures that it has added to its chord.
        self.added: list[dict[str, Any]] = []

    def add_to_chord(self, signature: Any, *, is_lazy: bool) -> None:
        """Let another activity run before the body of the chord, if this attempt succeeds.

        Raises:
            ValueError: this activity is no member of a chord, or is to send the other one itself.
        """
        if not header_in(self._task.request, "durable_chord"):
            raise ValueError("Current task is not member of any chord")
        if is_lazy:
            raise ValueError(
                "add_to_chord(lazy=True): within an orchestration what is added is sent by the"
                " orchestration"
            )
        self.added.append(dict(signature))

    @property
    def ran(self) -> int:
        """How many microseconds it has run, so far or altogether."""
        return ((self.ended or time.monotonic_ns()) - self.began) // 1000

    def ended_by(self, raised: BaseException) -> bool:
        """Tell whether it ended by this exception by itself.

        In a process of a pool Celery's own rules hold for the others.
        """
        if isinstance(raised, Exception):
            return True
        if current_process()._name != "MainProcess":
            return False
        if type(raised).__name__ == "Timeout" and not self._has_limits:
            return True
        return is_own(raised, is_worker=self._runtime.worker_id is not None)

    @property
    def _has_limits(self) -> bool:
        """Whether Celery keeps a time limit for it, which ends it by a ``Timeout`` in greenlets."""
        given = self._task.request.timelimit or (None, None)
        return any((*given, self._task.time_limit, self._task.soft_time_limit))

    def success_of(self, result: Any) -> Outcome:
        """Return the outcome of a result.

        Raises:
            PayloadError: it cannot be encoded.
        """
        codec = self._runtime.codec
        added = codec.encode(self.added) if self.added else None
        try:
            encoded = codec.encode(result)
        except PayloadError as problem:
            raise PayloadError(f"activity {self._task.name} returned {problem}") from None
        return Outcome(self._ticket, encoded, False, self.ran, added, self._noted_worker)

    def failure_of(self, error: BaseException) -> Outcome:
        """Return the outcome of an error."""
        failure = self._runtime.codec.encode_failure(error)
        worker = self._noted_worker
        return Outcome(self._ticket, failure, has_failed=True, ran=self.ran, worker=worker)

    @property
    def _noted_worker(self) -> str | None:
        """Who runs it, if the task wants history to have that."""
        notes = getattr(self._task, "durable_notes_worker", False)
        hostname = self._task.request.hostname
        return str(hostname) if notes and hostname else None
