"""Asking an orchestration: requests, which its code answers, and queries of its state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..core.guard import refuse_inside_orchestrator
from ..core.retry import Interval, in_microseconds
from ..engine.records import Answer
from ..errors import DurableError
from .aio import in_thread, twin
from .waiting import drivers, pauses, wait_until

if TYPE_CHECKING:
    from ..engine.asking import Question
    from ..engine.runtime import Runtime

__all__ = ["Asking", "answer_of", "value_of"]


class Asking:
    """What a handle asks of its orchestration."""

    if TYPE_CHECKING:
        id: str
        app: Any
        _nudge: Callable[[], None] | None

        @property
        def _runtime(self) -> Runtime: ...
        @property
        def _waits_for(self) -> str: ...

    def ask(
        self,
        name: str,
        data: Any = None,
        *,
        timeout: Interval | None = 30,
        request_id: str | None = None,
    ) -> Any:
        """Ask the orchestration, wait for its answer and return it.

        Its code takes the request by ``await ctx.wait_request(name)``; until then it is kept, as
        events are.

        Args:
            name: what the orchestrator waits for.
            data: what is asked.
            timeout: seconds or ``timedelta``; None waits for ever.
            request_id: the same one again is the same request: it gives the answer there is, for an
                hour, also after the end, or waits on. None is a random one.

        Raises:
            RequestRejected: the orchestrator refused it by a text; by an exception: that one.
            TimeoutError: there is no answer in time. The request stays, and may be answered yet.
            InvalidState: the orchestration is over, or ends without an answer.
            InstanceNotFound: there is none.
            ConfigurationError: the transaction that starts it is still open.
            PayloadError: the data cannot be encoded.

        Example:
            >>> run.ask("change_address", {"city": "Rome"}, timeout=5)
        """
        return value_of(self, answer_of(self, name, data, timeout, request_id))

    async def aask(
        self,
        name: str,
        data: Any = None,
        *,
        timeout: Interval | None = 30,
        request_id: str | None = None,
    ) -> Any:
        """Do the same as ``ask``, for code that runs on an event loop; no thread waits meanwhile.

        Who is cancelled takes nothing back: the request stays.
        """
        refuse_inside_orchestrator("aask()")
        left = seconds = _seconds(timeout)
        question = await in_thread(_asked, self, name, data, request_id)
        if drivers:
            drivers[-1](seconds, lambda: _is_answered(self, question))
            left = None if seconds is None else 0.0
        end = None if left is None else time.monotonic() + left
        for pause in pauses():
            answer = await in_thread(_look, self, question)
            if answer is not None:
                return value_of(self, answer)
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            await asyncio.sleep(pause if left is None else min(pause, left))
        raise _late(self, question, seconds)

    def query(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return what a query says of the orchestration after its last committed turn.

        A query is a function that is declared by ``@orchestrator.query`` and looks at
        ``ctx.state``. It runs in this process, upon a replay of the history; nothing is changed,
        and no worker is needed. It works on finished and suspended orchestrations, too.

        Args:
            name: of the query.
            *args: what it takes after the state.
            **kwargs: the same by their names.

        Raises:
            InstanceNotFound: there is no such orchestration.
            ConfigurationError: this process does not have its code.
            LookupError: it has no query of that name; the text lists those there are.
            NonDeterminismError: the code here and the history do not fit.
            PayloadError: the result cannot be encoded.

        Example:
            >>> run.query("address")
        """
        from ..engine.querying import query

        return query(self._runtime.client, self.id, name, args, kwargs)

    aquery: Final = twin(query)


def answer_of(
    run: Asking, name: str, data: Any, timeout: Interval | None, request_id: str | None
) -> Answer:
    """Ask, and return the answer, which may be a failure."""
    seconds = _seconds(timeout)
    question = _asked(run, name, data, request_id)
    publisher, found = run._runtime.publisher, list[Answer]()

    def is_over() -> bool:
        answer = _look(run, question)
        found.extend([] if answer is None else [answer])
        return bool(found)

    wait_until(
        is_over,
        seconds,
        is_eager=bool(run.app.conf.task_always_eager),
        is_draining=lambda: publisher.is_draining,
        stuck=lambda: DurableError(
            f"orchestration {run.id!r} is asked {name!r} where it cannot go on meanwhile"
            f" (task_always_eager): {run._waits_for}",
            instance_id=run.id,
        ),
        late=lambda: _late(run, question, seconds),
    )
    return found[0]


def value_of(run: Asking, answer: Answer) -> Any:
    """Return what was answered, or raise it."""
    codec = run._runtime.codec
    if answer.has_failed:
        raise codec.decode_failure(answer.payload or "")[0]
    return codec.decode(answer.payload or "null")


def _seconds(timeout: Interval | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, (int, float)) and timeout < 0:
        return 0.0
    return in_microseconds(timeout, "timeout") / 1_000_000


def _asked(run: Asking, name: str, data: Any, request_id: str | None) -> Question:
    from ..engine.asking import ask, refuse_within

    client = run._runtime.client
    refuse_within(client, run.id, run._nudge)
    return ask(client, run.id, name, data, request_id)


def _look(run: Asking, question: Question) -> Answer | None:
    from ..engine.asking import answer_to

    return answer_to(run._runtime.client, question)


def _is_answered(run: Asking, question: Question) -> bool:
    return _look(run, question) is not None


def _late(run: Asking, question: Question, seconds: float | None) -> TimeoutError:
    return TimeoutError(
        f"orchestration {run.id!r} has not answered request {question.request_id!r}"
        f" ({question.name}) within {seconds or 0:g} seconds. It may do so yet: ask again with this"
        " request_id"
    )
