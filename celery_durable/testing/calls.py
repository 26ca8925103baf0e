"""Which activities were run, and what replaces them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery
from celery.signals import task_prerun

from ..engine.records import ActivityAttemptId
from ..engine.scope import Scope
from ..worker.headers import ticket_of
from ..worker.orchestrator import OrchestratorTask
from ..worker.tracing import Tracing

__all__ = ["Call", "Calls", "StandIn", "plain_runs"]

_MISSING: Any = object()
#: Tasks of Celery and of the engine.
_OWN = ("celery.", "celery_durable.")


@dataclass(frozen=True)
class Call:
    """One run of a task's body for an orchestration."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: Of the orchestration that asked for it.
    instance_id: str
    #: Which attempt it was, from 1.
    attempt: int
    #: When it began, by the test's clock; aware, UTC.
    at: datetime
    #: The queue of its message; None where Celery's routes decide.
    queue: str | None


class Calls(Tracing):
    """Keeps calls by the name of their task; stands where a tracer does.

    Args:
        now: gives the time.
        queue_of: gives the queue of an activity.
        after_body: is called between a body and the record of its outcome.
        inner: the tracer of the application.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        queue_of: Callable[[ActivityAttemptId], str | None],
        after_body: Callable[[str], None],
        inner: Tracing | None,
    ) -> None:
        self.found: dict[str, list[Call]] = {}
        #: The attempt whose body runs now.
        self.ticket: ActivityAttemptId | None = None
        #: The name of its task.
        self.task: str | None = None
        #: Its orchestration.
        self.instance_id: str = ""
        #: The orchestrations whose code was a stand-in.
        self.stood_in: set[str] = set()
        self._now, self._queue_of, self._after_body = now, queue_of, after_body
        self.inner = inner

    def note(
        self,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        instance_id: str,
        attempt: int,
        queue: str | None = None,
    ) -> None:
        """Keep a call."""
        call = Call(tuple(args), dict(kwargs), instance_id, attempt, self._now(), queue)
        self.found.setdefault(task, []).append(call)

    def note_plain(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Keep the run of a plain task that was sent; an attempt of an activity is none."""
        name = str(task.name)
        if isinstance(task, OrchestratorTask) or name.startswith(_OWN):
            return
        if ticket_of(task.request) is None:
            self.note(name, args, kwargs, self.instance_id, task.request.retries + 1)

    @contextmanager
    def activity(self, scope: Scope, ticket: ActivityAttemptId, request: Any) -> Iterator[None]:
        """Surround a body; see ``worker.tracing``."""
        task = str(request.task)
        args, kwargs = request.args or (), request.kwargs or {}
        self.note(task, args, kwargs, scope.instance_id, ticket.attempt, self._queue_of(ticket))
        span = nullcontext() if self.inner is None else self.inner.activity(scope, ticket, request)
        outer = self.ticket, self.task, self.instance_id
        self.ticket, self.task, self.instance_id = ticket, task, scope.instance_id
        try:
            with span:
                yield
        finally:
            self.ticket, self.task, self.instance_id = outer
        self._after_body(f"between the body of {task} and the record of its outcome")

    def sending(self, headers: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Surround the sending of an activity; see ``worker.tracing``."""
        return nullcontext() if self.inner is None else self.inner.sending(headers)


@contextmanager
def plain_runs(app: Celery, calls: Callable[[], Calls]) -> Iterator[None]:
    """Let the runs of plain tasks of an application be kept within the block."""

    def note(task: Any, args: Any, kwargs: Any, **_: Any) -> None:
        if task.app is app:
            calls().note_plain(task, args or (), kwargs or {})

    task_prerun.connect(note, weak=False)
    try:
        yield
    finally:
        task_prerun.disconnect(note)


class StandIn:
    """What a replaced task does instead.

    A list gives one value for each attempt, in order; an attempt that runs again, because its
    worker died, gets the one that it had. For ``side_effect`` it may hold plain values too, as in
    ``unittest.mock``.

    Raises:
        TypeError: not exactly one of the three is given, or ``side_effect`` cannot be called.
    """

    def __init__(
        self,
        task: str,
        *,
        returns: Any = _MISSING,
        raises: Any = _MISSING,
        side_effect: Any = _MISSING,
        **odd: Any,
    ) -> None:
        if odd:
            raise TypeError(
                f"replace({task!r}) takes returns=, raises= or side_effect=, not {', '.join(odd)}"
            )
        given = {"returns": returns, "raises": raises, "side_effect": side_effect}
        chosen = [name for name, value in given.items() if value is not _MISSING]
        if len(chosen) != 1:
            raise TypeError(
                f"replace({task!r}) takes exactly one of returns=, raises= and side_effect=, not"
                f" {' and '.join(chosen) or 'none'}"
            )
        self.task = task
        (self._kind,) = chosen
        self._value = given[self._kind]
        is_list = isinstance(self._value, list)
        for value in self._value if is_list else [self._value]:
            self._check(value, is_one_of_many=is_list)
        self._used: dict[object, Any] = {}
        self.complaint: AssertionError | None = None

    def _check(self, value: Any, *, is_one_of_many: bool) -> None:
        is_error = isinstance(value, BaseException) or (
            isinstance(value, type) and issubclass(value, BaseException)
        )
        if self._kind == "raises" and not (is_error or value is None):
            raise TypeError(f"raises= takes exceptions and None, not {value!r}")
        if self._kind == "side_effect" and not (is_one_of_many or is_error or callable(value)):
            raise TypeError(f"side_effect= takes functions and exceptions, not {value!r}")

    @contextmanager
    def from_the_first(self) -> Iterator[None]:
        """Begin with the first value again within the block, and go on after it as before."""
        before, self._used = self._used, {}
        try:
            yield
        finally:
            self._used = before

    def answer(self, key: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return, or raise, what this call gets.

        Args:
            key: of the attempt.
            args: of the call.
            kwargs: of the call.
        """
        value = self._value
        if isinstance(value, list):
            if key not in self._used:
                if len(self._used) == len(value):
                    self.complaint = AssertionError(
                        f"{self.task} was called with {_shown(args, kwargs)} once more than"
                        f" replace() has values for: {len(value)}"
                    )
                    raise self.complaint
                self._used[key] = value[len(self._used)]
            value = self._used[key]
        is_class = isinstance(value, type) and issubclass(value, BaseException)
        if self._kind != "returns" and (isinstance(value, BaseException) or is_class):
            raise value
        is_function = self._kind == "side_effect" and callable(value)
        return value(*args, **kwargs) if is_function else value


def _shown(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    parts = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"({', '.join(parts)})"
