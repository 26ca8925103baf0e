"""``ctx.call`` and ``ctx.map``: a signature of any shape becomes calls; only its leaves travel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, Unpack, overload

from ..canvas import chunks_of, members_of, parts_of, steps_of, with_first
from ..flags import is_whole
from ..futures import AllFuture, MapFuture
from ..guard import in_turn
from ..options import REFUSED_BY_ACTIVITIES, refuse
from ..ports import Host
from ..retry import Interval, RetryPolicy, in_microseconds
from ..times import as_microseconds
from ..typed import Annotation, MakesSignature, SignatureOf
from .activity import ActivityCall
from .call import Call, CallOptions, Calls
from .call_keywords import CallKeywords, ItemKeywords, Limits, Signature, call_options
from .child import ChildCall
from .kind import ContextPart
from .typed_payload import TypedPayloads, as_type

__all__ = ["CallContext", "call", "call_logged", "leaf", "result_as", "window"]

R = TypeVar("R")
T = TypeVar("T")


def call(host: Host, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
    """Run a signature of any shape; only leaves travel."""
    if not isinstance(signature, Mapping):
        signature = _signature_of(signature)
    if not isinstance(signature, Mapping) or "task" not in signature:
        given = "the task itself" if hasattr(signature, "s") else type(signature).__name__
        raise TypeError(f"ctx.call() takes a Celery signature such as my_task.s(1, 2), not {given}")
    whole = signature.get("subtask_type") or signature["task"]
    shape = _SHAPES.get(whole)
    if shape is None:
        return leaf(host, signature, options).future
    refuse(signature.get("options") or {}, REFUSED_BY_ACTIVITIES, f"{whole} in an orchestration")
    return shape(host, signature, options)


def _signature_of(task: Any) -> Any:
    """Return the signature that a task of another framework makes of itself, or what was given."""
    make = getattr(task, "durable_signature", None)
    return make() if callable(make) else task


def result_as(
    host: Host, future: asyncio.Future[Any], wanted: Any, signature: Any
) -> asyncio.Future[Any]:
    """Return the future of a result, decoded to a type; the future itself if none is named."""
    if wanted is None:
        return future
    return as_type(host, future, wanted, f"the result of {_signature_of(signature)['task']}")


def leaf(host: Host, signature: Mapping[str, Any], options: CallOptions) -> Call:
    """Begin to run one activity or sub-orchestration."""
    task_options = signature.get("options") or {}
    if task_options.get("expires") is not None and options.start_timeout is None:
        options = replace(
            options, start_timeout=max(0, _moment(host, task_options["expires"]) - host.now)
        )
    kind: type[ChildCall | ActivityCall] = ActivityCall
    if host.is_orchestrator(name := str(signature["task"])):
        kind = ChildCall
        if options.limits:
            raise ValueError(f"limit= is for activities, and {name} is an orchestrator")
        given = signature.get("args") or (), signature.get("kwargs") or {}
        host.of(TypedPayloads).checked(lambda: host.types.check_call(name, *given), is_of_call=True)
    call = kind(host, signature, options)
    host.of(Calls).open[call.command] = call
    due = None
    if task_options.get("eta") is not None:
        due = _moment(host, task_options["eta"])
    elif task_options.get("countdown"):
        due = _moment(host, task_options["countdown"])
    call.schedule(due)
    return call


def _moment(host: Host, value: Any) -> int:
    if not isinstance(value, (int, float)):
        return as_microseconds(value)
    return host.now + in_microseconds(max(value, 0), "countdown or expires")


def _group(host: Host, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
    return AllFuture(
        [call(host, member, options) for member in members_of(signature)], loop=host.loop
    )


def _chunks(host: Host, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
    """Run each chunk as one activity, as Celery does; the results are a list of lists."""
    return AllFuture([call(host, chunk, options) for chunk in chunks_of(signature)], loop=host.loop)


def _chain(host: Host, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
    return host.loop.create_task(_run_chain(host, steps_of(signature), options))


async def _run_chain(host: Host, steps: Sequence[Mapping[str, Any]], options: CallOptions) -> Any:
    result = None
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        chosen = options if is_last or options.chord is None else replace(options, chord=None)
        result = await call(host, with_first(step, (result,)) if number else step, chosen)
    return result


def _chord(host: Host, signature: Mapping[str, Any], options: CallOptions) -> asyncio.Future[Any]:
    return host.loop.create_task(_run_chord(host, *parts_of(signature), options))


async def _run_chord(
    host: Host, header: Sequence[Mapping[str, Any]], body: Mapping[str, Any], options: CallOptions
) -> Any:
    results, added, more = list[Any](), list[Mapping[str, Any]](), header
    while more or not results:
        members = [call(host, member, replace(options, chord=added)) for member in more]
        results += await AllFuture(members, loop=host.loop)
        if not added:
            break
        more, added = added, []  # the members' own lists stay what they were
    return await call(host, with_first(body, (results,)), options)


def window(
    host: Host,
    signatures: Sequence[Mapping[str, Any]],
    concurrency: int | None,
    options: CallOptions = CallOptions(),  # noqa: B008  frozen
) -> list[asyncio.Future[Any]]:
    """Call every signature with the same options, at most ``concurrency`` at a time.

    The store opens the window as members end. The label of each has its number, from 0.
    """
    numbered = [(each, _labelled(options, n)) for n, each in enumerate(signatures)]
    if concurrency is None or concurrency >= len(signatures):
        return [call(host, signature, chosen) for signature, chosen in numbered]
    if host.is_orchestrator(str(signatures[0]["task"])):
        slots = asyncio.Semaphore(concurrency)
        return [
            host.loop.create_task(_call_in_slot(host, slots, signature, chosen))
            for signature, chosen in numbered
        ]
    first = host.last_number + 1
    return [
        leaf(
            host,
            signature,
            replace(chosen, window=first, width=concurrency, is_held=number >= concurrency),
        ).future
        for number, (signature, chosen) in enumerate(numbered)
    ]


def _labelled(options: CallOptions, number: int) -> CallOptions:
    return (
        options if options.label is None else replace(options, label=f"{options.label}[{number}]")
    )


async def _call_in_slot(
    host: Host, slots: asyncio.Semaphore, signature: Mapping[str, Any], options: CallOptions
) -> Any:
    async with slots:
        return await call(host, signature, options)


_SHAPES: dict[str, Callable[[Host, Mapping[str, Any], CallOptions], asyncio.Future[Any]]] = {
    "group": _group,
    "chain": _chain,
    "chord": _chord,
    "celery.chunks": _chunks,
}


class CallContext(ContextPart):
    """Running activities, sub-orchestrations, and canvases of them."""

    @overload
    def call(
        self, signature: SignatureOf[R], *, type: None = None, **options: Unpack[CallKeywords]
    ) -> asyncio.Future[R]: ...
    @overload
    def call(
        self, signature: Signature, *, type: type[T], **options: Unpack[CallKeywords]
    ) -> asyncio.Future[T]: ...
    @overload
    def call(
        self, signature: Signature, *, type: Annotation, **options: Unpack[CallKeywords]
    ) -> asyncio.Future[Any]: ...
    @overload
    def call(
        self, signature: Mapping[str, Any], *, type: None = None, **options: Unpack[CallKeywords]
    ) -> asyncio.Future[Any]: ...
    @in_turn
    def call(
        self,
        signature: Any,
        *,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        start_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        on_exhausted: Literal["raise", "suspend"] = "raise",
        label: str | None = None,
        limit: Limits = None,
        type: Any = None,
    ) -> asyncio.Future[Any]:
        """Run an activity, a sub-orchestration or a canvas of them; scheduled now, awaited or not.

        Args:
            signature: a Celery signature: of a task, of an orchestrator, or a group, chain or chord
                of these.
            retry: how often each leaf is tried; None tries once.
            timeout: seconds or ``timedelta`` per attempt, from its scheduling.
            start_timeout: until a worker is first seen to run it.
            heartbeat_timeout: between two ``durable_context().heartbeat()``.
            on_exhausted: after the last failed attempt raise here, or suspend the instance.
            label: a name for people: history and pictures show it.
            limit: how many attempts may run at a time, or be sent in a time, over all workers: a
                number, ``Limit``, ``Rate``, or a list of these; the task's own limits hold, too.
                Time limits count from when an attempt is admitted. Of a canvas, for each leaf.
            type: any annotation: what the result is decoded to, as ``Receipt`` or
                ``list[Receipt]``.

        Raises:
            TypeError: ``signature`` is not a Celery signature.
            ValueError: ``limit`` is given to a sub-orchestration, or its ``key`` names no argument.
            PayloadError: an argument cannot be encoded; (when awaited) the result does not fit
                ``type``.

        Example:
            >>> policy = RetryPolicy(max_attempts=5)
            >>> receipt = await ctx.call(charge.s(order), retry=policy, timeout=60)
        """
        options = call_options(
            retry=retry,
            timeout=timeout,
            start_timeout=start_timeout,
            heartbeat_timeout=heartbeat_timeout,
            on_exhausted=on_exhausted,
            label=label,
            limit=limit,
        )
        return result_as(self._host, call(self._host, signature, options), type, signature)

    @in_turn
    def _call_logged(
        self, signature: Mapping[str, Any], command_log: list[int], **options: Any
    ) -> asyncio.Future[Any]:
        """Do the same as ``call``, and note in ``command_log`` which commands it takes."""
        return call(
            self._host, signature, replace(call_options(**options), command_log=command_log)
        )

    @overload
    def map(
        self,
        task: MakesSignature[R] | SignatureOf[R],
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        tolerate: Literal[0] = 0,
        stop_when: None = None,
        **options: Unpack[ItemKeywords],
    ) -> asyncio.Future[list[R]]: ...
    @overload
    def map(
        self,
        task: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        tolerate: float | Literal["all"] = 0,
        stop_when: int | None = None,
        **options: Unpack[ItemKeywords],
    ) -> asyncio.Future[list[Any]]: ...
    @in_turn
    def map(
        self,
        task: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        tolerate: float | Literal["all"] = 0,
        retry: RetryPolicy | None = None,
        timeout: Interval | None = None,
        start_timeout: Interval | None = None,
        heartbeat_timeout: Interval | None = None,
        limit: Limits = None,
        label: str | None = None,
        stop_when: int | None = None,
    ) -> asyncio.Future[list[Any]]:
        """Run ``task`` once for each item, at most ``concurrency`` at a time.

        Args:
            task: a task, an orchestrator, or a signature of one; each item becomes its first
                argument.
            items: the items, taken in order.
            concurrency: the width of the window; None for no limit.
            tolerate: how many may fail (a count, a share as a float in (0, 1), or "all") before it
                raises the failure that is one too many, and takes the rest back.
            retry: as in ``call``, for each item, as are the next three; an item that waits for its
                next attempt keeps its slot in the window.
            timeout: of one attempt.
            start_timeout: until a worker is first seen to run it.
            heartbeat_timeout: between two heartbeats.
            limit: as in ``call``, for each item.
            label: a name for people; item 3, counted from 0, is ``"<label>[3]"``.
            stop_when: so many successes are enough: what has not ended then is taken back, and its
                place has ``celery_durable.SKIPPED``, which is null in a payload.

        Returns:
            A future of the results in order, with the exception in the place of each tolerated
                failure.

        Raises:
            ValueError: a number is out of its range; and as in ``call``.

        Example:
            >>> receipts = await ctx.map(charge, orders, concurrency=10, tolerate=0.1)
            >>> first = await ctx.map(charge, orders, stop_when=1, tolerate="all")
        """
        values = list(items)
        tolerated = _tolerated(tolerate, len(values))
        options = call_options(
            retry=retry,
            timeout=timeout,
            start_timeout=start_timeout,
            heartbeat_timeout=heartbeat_timeout,
            label=label,
            limit=limit,
        )
        width = _optional_count(concurrency, "concurrency")
        enough = _optional_count(stop_when, "stop_when")
        if not isinstance(task, Mapping):
            task = _signature_of(task)
        base: dict[str, Any] = dict(task) if isinstance(task, Mapping) else {"task": task.name}
        if options.limits and self._host.is_orchestrator(str(base["task"])):
            raise ValueError(f"limit= is for activities, and {base['task']} is an orchestrator")
        signatures = [{**base, "args": (value, *(base.get("args") or ()))} for value in values]
        futures = window(self._host, signatures, width, options)
        return MapFuture(futures, loop=self._host.loop, tolerate=tolerated, stop_when=enough)


def _tolerated(tolerate: float | str, count: int) -> int:
    """Return how many of ``count`` items may fail."""
    if isinstance(tolerate, bool):
        raise TypeError(f'tolerate is a count, a share or "all", not {tolerate!r}')
    if tolerate == "all":
        return count
    if isinstance(tolerate, float) and 0 < tolerate < 1:
        return int(tolerate * count)
    if isinstance(tolerate, (int, float)) and tolerate >= 0 and int(tolerate) == tolerate:
        return int(tolerate)
    raise ValueError(f"tolerate must be a count, a share in (0, 1) or 'all', not {tolerate!r}")


def _optional_count(value: int | None, what: str) -> int | None:
    if value is not None and (not is_whole(value) or value < 1):
        raise ValueError(f"{what} must be a whole number of at least 1, not {value!r}")
    return value


def call_logged(
    context: CallContext, signature: Mapping[str, Any], command_log: list[int], **options: Any
) -> asyncio.Future[Any]:
    """Do the same as ``ctx.call``, and note in ``command_log`` which commands it takes."""
    return context._call_logged(signature, command_log, **options)
