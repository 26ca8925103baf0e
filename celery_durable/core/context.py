"""What an orchestrator is given as ``ctx``: the only way in which it may act on the world.

Everything here turns into commands of the execution, or reads facts that history fixes.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from datetime import datetime, timedelta
from functools import cached_property
from random import Random
from types import NoneType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from .._errors import ForbiddenOperation
from .entity import id_of
from .flags import check_flags
from .futures import AllFuture, AnyFuture, as_future
from .guard import in_turn
from .kinds import ContinueAsNewRequested, KindsContext, TypedPayloads
from .ports import Host
from .references import EntityLock, EntityReference
from .retry import Interval, RetryPolicy, in_microseconds
from .saga import Saga
from .tags import tag_changes
from .times import EPOCH

__all__ = ["OrchestrationContext", "reseed"]

T = TypeVar("T")

#: What is set by other means than an assignment, which no one would see.
_SET_BY = {
    "state": "give it attributes, as in ctx.state.address = ...",
    **dict.fromkeys(("status", "custom_status"), "use ctx.set_status(value)"),
    "tags": "use ctx.set_tags({...})",
}


class _ReplayFilter(logging.LoggerAdapter):  # type: ignore[type-arg]
    def __init__(self, logger: logging.Logger, host: Host) -> None:
        info = host.info
        super().__init__(
            logger,
            {
                "instance_id": info.instance_id,
                "durable_instance": info.instance_id,
                "durable_orchestration": info.name,
            },
        )
        self._host = host

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return not self._host.is_replaying and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        turn = {"durable_turn": self._host.sequence + 1}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {}), **turn}
        return f"[{self._host.info.instance_id}] {msg}", kwargs


class OrchestrationContext(KindsContext):
    """The context of one execution; valid only while its orchestrator runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        info = host.info
        self.instance_id: str = info.instance_id
        self.execution_id: str = info.execution_id
        self.parent_id: str | None = info.parent_id
        self.name: str = info.name
        self.version: str | None = info.version
        #: What was captured at its start: message headers and values of propagators, by name.
        self.context: Mapping[str, Any] = info.context
        self._seed = host.seed
        self.logger: logging.LoggerAdapter[logging.Logger] = _ReplayFilter(
            logging.getLogger(f"celery_durable.orchestrator.{info.name}"), host
        )

    if not TYPE_CHECKING:  # checkers find by themselves what cannot be set

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuse what would do nothing, or hide what is there."""
            is_there = name in self.__dict__ or hasattr(type(self), name)
            if name in _SET_BY or (is_there and not name.startswith("_")):
                how = _SET_BY.get(name, "it is the context's own")
                raise AttributeError(f"ctx.{name} cannot be set: {how}")
            object.__setattr__(self, name, value)

    def _reseed(self, seed: str) -> None:
        """Let ``random`` and ``uuid4`` begin from a seed."""
        self._seed = seed
        # what was asked for may be in use already
        if "random" in self.__dict__:
            self.random.seed(f"{seed}:random")
        if "_ids" in self.__dict__:
            self._ids.seed(f"{seed}:uuid4")

    # Made when they are asked for: most code asks for neither, and each has 2.5 kB.

    @cached_property
    def random(self) -> Random:
        """Random numbers that are the same on every replay."""
        return Random(f"{self._seed}:random")  # noqa: S311

    @cached_property
    def _ids(self) -> Random:
        return Random(f"{self._seed}:uuid4")  # noqa: S311

    # -- facts ------------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """False exactly when new commands would be recorded."""
        return self._host.is_replaying

    @property
    def history_length(self) -> int:
        """The number of events of this execution so far."""
        return self._host.history_length

    @property
    def should_continue_as_new(self) -> bool:
        """True once the history is long enough to be worth a fresh execution."""
        return self.history_length >= 10_000

    def now(self) -> datetime:
        """Return the time of the event being applied, aware UTC; constant between awaits.

        Example:
            >>> deadline = ctx.now() + timedelta(days=3)
        """
        return EPOCH + timedelta(microseconds=self._host.now)

    @in_turn
    def uuid4(self) -> uuid.UUID:
        """Return a random UUID that is the same on every replay.

        Example:
            >>> await ctx.call(charge.s(order, key=str(ctx.uuid4())))
        """
        return uuid.UUID(int=self._ids.getrandbits(128), version=4)

    # -- composites -------------------------------------------------------------------------------

    @in_turn
    def all(
        self, awaitables: Iterable[Awaitable[T]], *, fail_fast: bool = True
    ) -> asyncio.Future[list[T]]:
        """Return every result in order; ``[]`` at once for none.

        With ``fail_fast`` the first failure raises at once and the siblings keep running; without
        it the first failure in order raises when all are done.

        Example:
            >>> receipts = await ctx.all(ctx.call(charge.s(each)) for each in orders)
        """
        check_flags(fail_fast=fail_fast)
        return AllFuture(self._futures(awaitables), loop=self._host.loop, fail_fast=fail_fast)

    @in_turn
    def any(
        self, awaitables: Iterable[Awaitable[T]], *, cancel_losers: bool = True
    ) -> asyncio.Future[T]:
        """Return the result of the first to be done, or raise its failure.

        Raises:
            ValueError: there is nothing to wait for.

        Example:
            >>> answer = await ctx.any([ctx.wait_event("approved"), ctx.wait_event("refused")])
        """
        check_flags(cancel_losers=cancel_losers)
        futures = self._futures(awaitables)
        if not futures:
            raise ValueError("ctx.any() of nothing would never finish")
        return AnyFuture(futures, loop=self._host.loop, cancel_losers=cancel_losers)

    def _futures(self, awaitables: Iterable[Awaitable[Any]]) -> list[asyncio.Future[Any]]:
        if isinstance(awaitables, Awaitable):
            raise TypeError("ctx.all() and ctx.any() take a list, as in ctx.all([first, second])")
        return [as_future(self._host.loop, awaitable) for awaitable in awaitables]

    # -- entities ---------------------------------------------------------------------------------

    @overload
    def entity(self, cls: type[T], key: str) -> EntityReference[T]: ...
    @overload
    def entity(self, cls: str, key: str) -> EntityReference[Any]: ...
    def entity(self, cls: type | str, key: str) -> EntityReference[Any]:
        """Return the reference to an entity, which its first message creates.

        ``await ctx.entity(Counter, "visits").add(5)`` is a call: it gives what the operation
        returns, or raises what it raised. ``ctx.entity(Counter, "visits").signal.add(5)`` is
        one-way, ``.signal(delay=60).add(5)`` comes later.

        Raises:
            TypeError: ``cls`` is no class declared by ``@durable.entity``, nor the name of one; the
                key is no string.
            ValueError: the name or the key does not fit.

        Example:
            >>> total = await ctx.entity(Counter, "visits").add(5)
        """
        return EntityReference(self._host, *id_of(cls, key))

    def lock(self, *entities: EntityReference, lease: Interval | None = None) -> EntityLock:
        """Return a block in which entities take operations of this orchestration only: ``async with
        ctx.lock(a, b)``.

        They are locked one after the other, in the order of their ids, so that two orchestrations
        cannot block each other; everything else that they are sent waits, in order. Inside the
        block only entities that it holds can be called, others can be signaled. The locks are
        released however the block is left, and when the orchestration is terminated, fails or is
        replaced.

        Args:
            *entities: what ``ctx.entity(...)`` gives.
            lease: seconds or ``timedelta`` after which an entity that others wait for is given to
                the next of them; from then on operations of this block are refused. None holds it
                until the block is left.

        Raises:
            TypeError: what is given is no entity reference.
            ValueError: nothing is given, or the lease is not positive.
            DurableError: (on entering) this orchestration is inside such a block already.
            LockLost: (by an operation) the lease was over.

        Example:
            >>> shelf, cart = ctx.entity(Counter, "shelf"), ctx.entity(Counter, "cart")
            >>> async with ctx.lock(shelf, cart, lease=60):
            ...     await shelf.add(-1)
            ...     await cart.add(1)
        """
        micros = None if lease is None else in_microseconds(lease, "lease")
        if micros is not None and micros <= 0:
            raise ValueError(f"lease must be more than 0, not {lease!r}")
        return EntityLock(self._host, entities, micros)

    # -- the rest ---------------------------------------------------------------------------------

    def saga(self, *, parallel: bool = False, retry: RetryPolicy | None = None) -> Saga:
        """Return a block whose activities are undone if it is left by an exception, a timeout or a
        cancel.

        ``async with ctx.saga() as saga: await saga.call(reserve.s(order), undo=release.s(order))``.
        Undos run durably, last first, past failing ones, and are not interrupted; terminating an
        instance undoes nothing.

        Args:
            parallel: run the undos at the same time.
            retry: how often each undo is tried; None tries 10 times over about 17 minutes.

        Raises:
            CompensationFailed: (on leaving the block) undos failed; its cause is the
                exception that began them.

        Example:
            >>> async with ctx.saga() as saga:
            ...     await saga.call(reserve.s(order), undo=release.s(order))
            ...     await saga.call(charge.s(order))
        """
        check_flags(parallel=parallel)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry takes a RetryPolicy, not {retry!r}")
        return Saga(self, parallel=parallel, retry=_UNDO_RETRY if retry is None else retry)

    @in_turn
    def set_status(self, value: Any) -> None:
        """Set the custom status; visible at the commit of the turn, the last one of a turn wins.

        Example:
            >>> ctx.set_status({"step": "paying", "of": 3})
        """
        self._host.set_status(value)

    @in_turn
    def set_tags(
        self, tags: Mapping[str, str] | None = None, *, remove: Iterable[str] = ()
    ) -> None:
        """Set some of the tags by which this orchestration is found, and remove others.

        Those that are not named stay. Visible at the commit of the turn; of what one turn says of
        a tag the last holds. They are kept over ``continue_as_new``, and history has nothing of
        them.

        Args:
            tags: strings by their names.
            remove: names of tags; one that is not there is left out.

        Raises:
            TypeError: a name or a value is no string.
            ValueError: a tag is to be both set and removed, or cannot be stored.

        Example:
            >>> ctx.set_tags({"state": "paid"}, remove=["reminded"])
        """
        self._host.tag_changes.update(tag_changes(tags, remove))

    def continue_as_new(
        self, *args: Any, upgrade: bool | str | None = None, keep_events: bool = True, **kwargs: Any
    ) -> NoReturn:
        """End this execution and start afresh under the same id, with new arguments; never returns.

        Events that were not taken yet stay for the new execution, in order, unless ``keep_events``
        is False.

        Args:
            *args: its arguments.
            upgrade: which version of the code it has: True for the one that a new start would get,
                the name of one, False for the same; None is what this version declares
                (``@durable.orchestrator(upgrade=)``).
            keep_events: whether it has the events that were not taken yet.
            **kwargs: its keyword arguments.

        Raises:
            TypeError: ``upgrade`` is no version.
            PayloadError: an argument does not fit its annotation.
            ForbiddenOperation: inside a saga or a lock, which would never know how it ends.

        Example:
            >>> if ctx.should_continue_as_new:
            ...     ctx.continue_as_new(order)
        """
        check_flags(keep_events=keep_events)
        if self._host.open_blocks:
            raise ForbiddenOperation(
                "ctx.continue_as_new() inside a saga or a lock: leave the block first, so that it"
                " is clear what is done"
            )
        if not isinstance(upgrade, (bool, str, NoneType)) or upgrade == "":
            raise TypeError(f"upgrade is True, False or a version, not {upgrade!r}")
        host = self._host
        host.of(TypedPayloads).checked(
            lambda: host.types.check_next(upgrade, args, kwargs), is_of_call=True
        )
        raise ContinueAsNewRequested(args, kwargs, keep_events, upgrade)


_UNDO_RETRY = RetryPolicy(first_interval=1, max_attempts=10, backoff=2.0, max_interval=300)


def reseed(context: OrchestrationContext, seed: str) -> None:
    """Let ``random`` and ``uuid4`` of a context begin from another seed."""
    context._reseed(seed)
