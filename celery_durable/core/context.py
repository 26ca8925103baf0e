"""What an orchestrator is given as ``ctx``: the only way in which it may act on the world.

Everything here turns into commands of the execution, or reads facts that history fixes.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ..errors import DurableError, ForbiddenOperation, PayloadError
from .calls import CallOptions, checked_name
from .commands import RecordPatch, RecordRun, SendEvent
from .entity import RESERVED, id_of
from .references import EntityLock, EntityReference
from .retry import Interval, RetryPolicy, in_microseconds
from .saga import Saga
from .waits import AllFuture, AnyFuture, MapFuture

if TYPE_CHECKING:
    from .replay import Execution

__all__ = ["ContinueAsNewRequested", "OrchestrationContext", "refuse_inside_orchestrator", "running_orchestrator"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_running = threading.local()


class ContinueAsNewRequested(BaseException):
    """Leaves the orchestrator by ``ctx.continue_as_new``."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], keep_events: bool) -> None:
        super().__init__("continue as new")
        self.call_args, self.call_kwargs, self.keep_events = args, kwargs, keep_events


@contextmanager
def running_orchestrator(instance_id: str) -> Iterator[None]:
    """Mark this thread as running the code of an orchestrator."""
    outer = getattr(_running, "instance_id", None)
    _running.instance_id = instance_id
    try:
        yield
    finally:
        _running.instance_id = outer


def refuse_inside_orchestrator(what: str) -> None:
    """Raise if this thread runs an orchestrator: the store is out of its reach.

    Raises:
        DurableError: called from within an orchestrator or a function under ``ctx.run``.
    """
    if (instance_id := getattr(_running, "instance_id", None)) is not None:
        raise DurableError(
            f"{what} was called inside orchestrator {instance_id!r}: that would not replay. Call a sub-orchestration "
            "or an activity by ctx.call(...), or use ctx.signal_event(...)",
            instance_id=instance_id,
        )


class _ReplayFilter(logging.LoggerAdapter):  # type: ignore[type-arg]
    def __init__(self, logger: logging.Logger, execution: Execution) -> None:
        facts = execution.facts
        super().__init__(
            logger,
            {
                "instance_id": facts.instance_id,
                "durable_instance": facts.instance_id,
                "durable_orchestration": facts.name,
            },
        )
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return not self._execution.is_replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        turn = {"durable_turn": self._execution.sequence + 1}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {}), **turn}
        return f"[{self._execution.facts.instance_id}] {msg}", kwargs


class OrchestrationContext:
    """The context of one execution; valid only while its orchestrator runs."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        facts = execution.facts
        self.instance_id: str = facts.instance_id
        self.execution_id: str = facts.execution_id
        self.parent_id: str | None = facts.parent_id
        self.name: str = facts.name
        self.version: str | None = facts.version
        self.random: random.Random = random.Random()  # noqa: S311
        self._ids = random.Random()  # noqa: S311
        self._reseed(execution.seed)
        self.logger: logging.LoggerAdapter[logging.Logger] = _ReplayFilter(
            logging.getLogger(f"celery_durable.orchestrator.{facts.name}"), execution
        )

    def _reseed(self, seed: str) -> None:
        """Begin ``random`` and ``uuid4`` anew."""
        self.random.seed(f"{seed}:random")
        self._ids.seed(f"{seed}:uuid4")

    # -- facts ------------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """False exactly when new commands would be recorded."""
        return self._execution.is_replaying

    @property
    def history_length(self) -> int:
        """The number of events of this execution so far."""
        return self._execution.history_length

    @property
    def should_continue_as_new(self) -> bool:
        """True once the history is long enough to be worth a fresh execution."""
        return self.history_length >= 10_000

    def now(self) -> datetime:
        """Return the time of the event being applied, aware UTC; constant between awaits."""
        return EPOCH + timedelta(microseconds=self._execution.now)

    def uuid4(self) -> uuid.UUID:
        """Return a random UUID that is the same on every replay."""
        return uuid.UUID(int=self._ids.getrandbits(128), version=4)

    # -- calls ------------------------------------------------------------------------------------

    def call(
        self,
        signature: Mapping[str, Any],
        *,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        start_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        on_exhausted: Literal["raise", "suspend"] = "raise",
        label: str | None = None,
    ) -> asyncio.Future[Any]:
        """Run an activity, a sub-orchestration or a canvas of them; scheduled now, awaited or not.

        Args:
            signature: a Celery signature: of a task, of an orchestrator, or a group, chain or chord of these.
            retry: how often each leaf is tried; None tries once.
            timeout: seconds or ``timedelta`` per attempt, from its scheduling.
            start_timeout: until a worker is first seen to run it.
            heartbeat_timeout: between two ``durable_context().heartbeat()``.
            on_exhausted: after the last failed attempt raise here, or suspend the instance.
            label: a name for people: history and pictures show it.

        Raises:
            TypeError: ``signature`` is not a Celery signature.
            PayloadError: an argument cannot be encoded.
        """
        options = _call_options(
            retry=retry, timeout=timeout, start_timeout=start_timeout, heartbeat_timeout=heartbeat_timeout,
            on_exhausted=on_exhausted, label=label,
        )  # fmt: skip
        return self._execution.call(signature, options)

    def _call_on_trail(self, signature: Mapping[str, Any], trail: list[int], **options: Any) -> asyncio.Future[Any]:
        """Do the same as ``call``, and note in ``trail`` which commands it takes."""
        return self._execution.call(signature, replace(_call_options(**options), trail=trail))

    def all(self, awaitables: Iterable[Awaitable[Any]], *, fail_fast: bool = True) -> asyncio.Future[list[Any]]:
        """Return every result in order; ``[]`` at once for none.

        With ``fail_fast`` the first failure raises at once and the siblings keep running; without it the first
        failure in order raises when all are done.
        """
        return AllFuture(self._futures(awaitables), loop=self._execution.loop, fail_fast=fail_fast)

    def any(self, awaitables: Iterable[Awaitable[Any]], *, cancel_losers: bool = True) -> asyncio.Future[Any]:
        """Return the result of the first to be done, or raise its failure.

        Raises:
            ValueError: there is nothing to wait for.
        """
        futures = self._futures(awaitables)
        if not futures:
            raise ValueError("ctx.any() of nothing would never finish")
        return AnyFuture(futures, loop=self._execution.loop, cancel_losers=cancel_losers)

    def map(
        self, task: Any, items: Iterable[Any], *, concurrency: int | None = None, tolerate: float = 0
    ) -> asyncio.Future[list[Any]]:
        """Run ``task`` once for each item, at most ``concurrency`` at a time.

        Args:
            task: a task, an orchestrator, or a signature of one; each item becomes its first argument.
            items: the items, taken in order.
            concurrency: the width of the window; None for no limit.
            tolerate: how many may fail (a count, or a share as a float in (0, 1)) before it raises.

        Returns:
            A future of the results in order, with the exception in the place of each tolerated failure.
        """
        if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
            raise ValueError(f"concurrency must be a whole number of at least 1, not {concurrency!r}")
        values = list(items)
        if isinstance(tolerate, float) and 0 < tolerate < 1:
            tolerated = int(tolerate * len(values))
        elif tolerate >= 0 and int(tolerate) == tolerate:
            tolerated = int(tolerate)
        else:
            raise ValueError(f"tolerate must be a count or a share in (0, 1), not {tolerate!r}")
        base: dict[str, Any] = dict(task) if isinstance(task, Mapping) else {"task": task.name}
        signatures = [{**base, "args": (value, *(base.get("args") or ()))} for value in values]
        futures = self._execution.window(signatures, concurrency)
        return MapFuture(futures, loop=self._execution.loop, tolerate=tolerated)

    def _futures(self, awaitables: Iterable[Awaitable[Any]]) -> list[asyncio.Future[Any]]:
        return [self._execution.as_future(awaitable) for awaitable in awaitables]

    # -- time and events --------------------------------------------------------------------------

    def sleep(self, duration: Interval) -> asyncio.Future[None]:
        """Wait by a durable timer, for seconds or a ``timedelta`` of any length."""
        return self._execution.sleep_until(self._execution.now + in_microseconds(duration, "duration"))

    def sleep_until(self, when: datetime) -> asyncio.Future[None]:
        """Wait by a durable timer until an aware ``datetime``; one in the past returns at once.

        Raises:
            ValueError: ``when`` is naive.
        """
        return self._execution.sleep_until(as_microseconds(when))

    def wait_event(self, name: str, *, timeout: Interval | None = None) -> asyncio.Future[Any]:
        """Wait for the payload of the next external event of that name, first in first out.

        Raises:
            TimeoutError: (when awaited) none came within ``timeout``; 0 takes a buffered one or raises.
        """
        return self._execution.wait_event(name, _optional(timeout, "timeout"))

    def signal_event(self, instance_id: str, name: str, data: Any = None) -> asyncio.Future[None]:
        """Raise an external event on another instance, one-way: dropped if there is no such instance."""
        execution = self._execution
        receiver = checked_name(instance_id, "an instance id", 150)
        event = checked_name(name, "an event name", 100_000)
        if event.startswith(RESERVED):
            raise ValueError(f"event names that begin with {RESERVED!r} are reserved; {event[:60]!r} does")
        execution.ask(SendEvent(execution.next_command(), receiver, event, execution.codec.encode(data)))
        return execution.done_future(None)

    # -- entities ---------------------------------------------------------------------------------

    def entity(self, cls: type | str, key: str) -> EntityReference:
        """Return the reference to an entity, which comes to be by its first message.

        ``await ctx.entity(Counter, "visits").add(5)`` is a call: it gives what the operation returns, or raises what it raised.
        ``ctx.entity(Counter, "visits").signal.add(5)`` is one-way, ``.signal(delay=60).add(5)`` comes later.

        Raises:
            TypeError: ``cls`` is no class declared by ``@durable.entity``, nor the name of one; the key is no string.
            ValueError: the name or the key does not fit.
        """
        return EntityReference(self._execution, *id_of(cls, key))

    def lock(self, *entities: EntityReference, lease: Interval | None = None) -> EntityLock:
        """Return a block in which entities take operations of this orchestration only: ``async with ctx.lock(a, b)``.

        They are locked one after the other, in the order of their ids, so that two orchestrations cannot block each other;
        everything else that they are sent waits, in order. Inside the block only entities that it holds can be called,
        others can be signaled. The locks are released however the block is left, and when the orchestration is
        terminated, fails or is replaced.

        Args:
            *entities: what ``ctx.entity(...)`` gives.
            lease: seconds or ``timedelta`` after which an entity that others wait for is given to the next of them; from
                then on operations of this block are refused. None holds it until the block is left.

        Raises:
            TypeError: what is given is no entity reference.
            ValueError: nothing is given, or the lease is not positive.
            DurableError: (on entering) this orchestration is inside such a block already.
            LockLost: (by an operation) the lease was over.
        """
        micros = _optional(lease, "lease")
        if micros is not None and micros <= 0:
            raise ValueError(f"lease must be more than 0, not {lease!r}")
        return EntityLock(self._execution, entities, micros)

    # -- the rest ---------------------------------------------------------------------------------

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Run a quick function inline; its result, or the exception it raised, is journaled with the turn.

        At least once in the world, exactly once in history. The function may not call the store.

        Raises:
            PayloadError: (when awaited) the result cannot be encoded.
        """
        if inspect.iscoroutinefunction(fn):
            raise TypeError(f"ctx.run() runs plain functions, not the coroutine function {fn!r}; await it directly")
        execution = self._execution
        command = execution.next_command()
        name = getattr(fn, "__qualname__", type(fn).__name__)
        recorded = execution.recorded_run(command, name)
        if recorded is None:
            if (
                execution.is_checked or execution.is_dry
            ):  # history has no such run: the check of the command will say so
                execution.ask(RecordRun(command, name, None, False))
                return execution.loop.create_future()
            recorded = _journal(execution, fn, args, kwargs)
        result, has_failed = recorded
        execution.ask(RecordRun(command, name, result, has_failed))
        if has_failed:
            future = execution.loop.create_future()
            future.set_exception(execution.codec.decode_failure(result)[0])
            return future
        return execution.done_future(execution.codec.decode(result))

    def saga(self, *, parallel: bool = False, retry: RetryPolicy | None = None) -> Saga:
        """Return a block whose activities are undone if it is left by an exception, a timeout or a cancel.

        ``async with ctx.saga() as saga: await saga.call(reserve.s(order), undo=release.s(order))``. Undos run durably, last
        first, past failing ones, and are not interrupted; terminating an instance undoes nothing.

        Args:
            parallel: run the undos at the same time.
            retry: how often each undo is tried; None tries 10 times over about 17 minutes.

        Raises:
            CompensationFailed: (on leaving the block) undos failed for good; its cause is the exception that began them.
        """
        return Saga(self, parallel=parallel, retry=_UNDO_RETRY if retry is None else retry)

    # -- code that changes -------------------------------------------------------------------------

    def patched(self, change_id: str) -> bool:
        """Tell whether this execution takes the new way of a change: False only if it went past this point before the change.

        The answer is recorded when it is True, and stays the same for the whole execution.
        """
        execution = self._execution
        change = checked_name(change_id, "a change id")
        known = execution.patches.get(change)
        if known is None:
            known = execution.patches[change] = not execution.is_replaying or change in execution.recorded_patches
            if known:
                execution.ask(RecordPatch(execution.next_command(), change))
        return known

    def deprecate_patch(self, change_id: str) -> None:
        """Say that no execution takes the old way any more; stands in for ``patched`` while histories still record it."""
        execution = self._execution
        change = checked_name(change_id, "a change id")
        if change not in execution.patches and execution.is_replaying and change in execution.recorded_patches:
            execution.ask(RecordPatch(execution.next_command(), change))
        execution.patches.setdefault(change, True)

    def set_status(self, value: Any) -> None:
        """Set the custom status; visible at the commit of the turn, the last one of a turn wins."""
        self._execution.set_status(value)

    def continue_as_new(self, *args: Any, keep_events: bool = True, **kwargs: Any) -> NoReturn:
        """End this execution and start afresh under the same id, with new arguments; never returns.

        Events that were not taken yet stay for the new execution, in order, unless ``keep_events`` is False.

        Raises:
            ForbiddenOperation: inside a saga or a lock, which would never know how it ends.
        """
        if self._execution.open_blocks:
            raise ForbiddenOperation(
                "ctx.continue_as_new() inside a saga or a lock: leave the block first, so that it is clear what is done"
            )
        raise ContinueAsNewRequested(args, kwargs, keep_events)


def _call_options(
    *,
    retry: RetryPolicy | None = None,
    timeout: Interval | None = None,
    start_timeout: Interval | None = None,
    heartbeat_timeout: Interval | None = None,
    on_exhausted: str = "raise",
    label: str | None = None,
) -> CallOptions:
    if on_exhausted not in ("raise", "suspend"):
        raise ValueError(f"on_exhausted must be 'raise' or 'suspend', not {on_exhausted!r}")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy, not {type(retry).__name__}")
    if label is not None and not isinstance(label, str):
        raise TypeError(f"label must be a string, not {type(label).__name__}")
    return CallOptions(
        retry=retry,
        timeout=_optional(timeout, "timeout"),
        start_timeout=_optional(start_timeout, "start_timeout"),
        heartbeat_timeout=_optional(heartbeat_timeout, "heartbeat_timeout"),
        suspend_on_exhausted=on_exhausted == "suspend",
        label=label,
    )


_UNDO_RETRY = RetryPolicy(first_interval=1, max_attempts=10, backoff=2.0, max_interval=300)


def _journal(
    execution: Execution, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, bool]:
    try:
        value = fn(*args, **kwargs)
    except Exception as error:
        return execution.codec.encode_failure(error), True
    try:
        return execution.codec.encode(value), False
    except PayloadError as problem:
        return execution.codec.encode_failure(PayloadError(f"ctx.run() got {problem}")), True


def _optional(interval: Interval | None, what: str) -> int | None:
    return None if interval is None else in_microseconds(interval, what)


def as_microseconds(when: datetime) -> int:
    """Return an aware ``datetime`` as microseconds since the epoch.

    Raises:
        ValueError: it is naive.
        TypeError: it is no ``datetime``.
    """
    if not isinstance(when, datetime):
        raise TypeError(f"an aware datetime is needed, not {type(when).__name__}")
    if when.tzinfo is None or when.utcoffset() is None:
        raise ValueError(f"{when!r} is naive: give it a time zone, for example datetime.now(timezone.utc)")
    return (when - EPOCH) // timedelta(microseconds=1)
