"""What Azure's two contexts, of Functions and of ``durabletask``, have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, MutableMapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ..core import context as core
from ..core.flags import check_flags
from .entities import EntityLock, entered
from .entity_names import EntityInstanceId, arguments_of, aware, operation_of, spelled
from .futures import CompletableTask, RetryableTask, TimerTask, relayed
from .retry import RetryOptions, RetryPolicy
from .values import outgoing, reader, return_type

__all__ = ["AzureContext", "ReplaySafeLogger", "Retry", "name_of"]

Retry = RetryOptions | RetryPolicy | None


class ReplaySafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that is silent during replay; see ``create_replay_safe_logger``."""

    def __init__(self, logger: logging.Logger, is_replaying: Callable[[], bool]) -> None:
        super().__init__(logger, {})
        self._is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """Tell whether a record of that level would be logged now."""
        return not self._is_replaying() and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave a record as it is."""
        return msg, kwargs


class AzureContext:
    """What both contexts have in common."""

    is_lenient: bool

    def __init__(self, ctx: core.OrchestrationContext, given: Any) -> None:
        self._ctx = ctx
        self._given = given
        self._status: Any = None
        self._successor: tuple[Any, bool] | None = None

    @property
    def instance_id(self) -> str:
        """The id of this orchestration."""
        return self._ctx.instance_id

    @property
    def parent_instance_id(self) -> str | None:
        """The id of the orchestration that this one is a child of."""
        return self._ctx.parent_id

    @property
    def is_replaying(self) -> bool:
        """True while what happens here has happened before."""
        return self._ctx.is_replaying

    @property
    def will_continue_as_new(self) -> bool:
        """True after ``continue_as_new``."""
        return self._successor is not None

    @property
    def version(self) -> str | None:
        """The version of the orchestrator, as ``@durable.orchestrator(version=...)``
        declares it.
        """
        return self._ctx.version

    def new_uuid(self) -> str:
        """Return a random UUID as text, the same on every replay."""
        return str(self._ctx.uuid4())

    def new_guid(self) -> UUID:
        """Return a random UUID, the same on every replay."""
        return self._ctx.uuid4()

    def create_replay_safe_logger(self, logger: logging.Logger) -> ReplaySafeLogger:
        """Return a logger that writes to another one, and is silent during replay."""
        return ReplaySafeLogger(logger, lambda: self._ctx.is_replaying)

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """Return a task that is done at a time (UTC, if naive), or after a ``timedelta``."""
        due = self._ctx.now() + fire_at if isinstance(fire_at, timedelta) else aware(fire_at)
        timer = self._ctx.sleep_until(due)
        return TimerTask(relayed(timer), withdraw=timer.cancel, is_lenient=self.is_lenient)

    def lock_entities(self, entities: Iterable[EntityInstanceId]) -> CompletableTask[EntityLock]:
        """Return a task of a block that holds these entities: ``with (yield
        context.lock_entities([a, b])):``.
        """
        lock = self._ctx.lock(*(self._ctx.entity(spelled(each), each.key) for each in entities))
        return CompletableTask(
            asyncio.get_running_loop().create_task(entered(lock)), is_lenient=self.is_lenient
        )

    def _set_status(self, status: Any) -> None:
        self._status = status
        self._ctx.set_status(outgoing(status))

    def _continue(self, new_input: Any, save_events: bool) -> None:
        check_flags(save_events=save_events)
        self._successor = (outgoing(new_input), save_events)

    def _call_entity(
        self, entity: EntityInstanceId, operation: str, given: Any, wanted: Any
    ) -> CompletableTask[Any]:
        reference = self._ctx.entity(spelled(entity), entity.key)
        answer = operation_of(reference, operation)(*arguments_of(given))
        return CompletableTask(answer, reader(wanted), is_lenient=self.is_lenient)

    def _signal_entity(
        self,
        entity: EntityInstanceId,
        operation: str,
        given: Any,
        signal_time: datetime | None = None,
    ) -> CompletableTask[None]:
        signals = self._ctx.entity(spelled(entity), entity.key).signal
        if signal_time is not None:
            signals = signals(at=aware(signal_time))
        sent = operation_of(signals, operation)(*arguments_of(given))
        return CompletableTask(sent, is_lenient=self.is_lenient)

    def finish(self, result: Any) -> Any:
        """Return the result of the orchestrator, or continue as new if it has asked for that."""
        if self._successor is not None:
            new_input, save_events = self._successor
            self._ctx.continue_as_new(new_input, keep_events=save_events)
        return outgoing(result)

    def shown(self, error: BaseException) -> BaseException:
        """Return what the orchestrator's ``except`` sees of a failure."""
        return error

    def _call(
        self, target: Any, given: Any, retry: Retry, wanted: Any, instance_id: str | None = None
    ) -> CompletableTask[Any]:
        options = {} if instance_id is None else {"task_id": instance_id}
        signature = {
            "task": name_of(target),
            "args": (outgoing(given),),
            "kwargs": {},
            "options": options,
        }
        called = self._ctx.call(signature, retry=None if retry is None else retry.policy)
        wanted = return_type(target) if wanted is None and not isinstance(target, str) else wanted
        kind: type[CompletableTask[Any]] = CompletableTask if retry is None else RetryableTask
        return kind(called, reader(wanted), is_lenient=self.is_lenient)


def name_of(target: Any) -> str:
    """Return the name of a Celery task, or the one under which a plain function is registered.

    Raises:
        TypeError: it is neither, nor a name.
        ValueError: it is a lambda.
    """
    if isinstance(target, str):
        return target
    name = getattr(target, "name", None) or getattr(target, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(
            f"a name, a Celery task or a function is needed, not {type(target).__name__}"
        )
    if name == "<lambda>":
        raise ValueError("a lambda has no name by which a worker could find it: define a function")
    return name
