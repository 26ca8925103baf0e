"""Compensation: what was done is undone, last thing first, when the block that did it is left by an
exception or a cancel.

An undo is an activity like any other: it is recorded, tried again by a policy of its own, and
survives everything.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from .._errors import ActivityTimeout, CompensationFailed, OrchestrationFailed
from .endings import is_own
from .kinds import KindsContext
from .kinds.call_keywords import CallKeywords, Signature
from .kinds.calling import call_logged, result_as
from .kinds.kind import host_of
from .retry import RetryPolicy
from .typed import Annotation, SignatureOf

__all__ = ["Saga"]

# Celery's: how far it came is not known
_KILLED = frozenset({"WorkerLostError", "TimeLimitExceeded"})
Undo = Signature | Callable[[Any], Signature]
R = TypeVar("R")
T = TypeVar("T")


@dataclass(eq=False)
class _Entry:
    """One thing to undo: by a signature, or by a function that gets the result, None where it is
    not known.
    """

    undo: Undo
    call: asyncio.Future[Any] | None = None
    commands: list[int] = field(default_factory=list)
    #: The call with its result as the type that the code names; else the call itself.
    result: asyncio.Future[Any] | None = None

    @property
    def is_due(self) -> bool:
        """False only where the activity itself said that it has failed."""
        call = self.call
        if (
            call is None
            or not call.done()
            or call.cancelled()
            or (error := call.exception()) is None
        ):
            return True
        return (
            isinstance(error, (ActivityTimeout, OrchestrationFailed))
            or type(error).__name__ in _KILLED
        )

    async def signature(self) -> Any:
        """Return the activity that undoes it."""
        if not callable(self.undo) or isinstance(self.undo, Mapping):
            return self.undo
        if not _has_result(self.call) or self.result is None:
            return self.undo(None)
        if self.result is not self.call:  # its type is seen to in a task of its own
            await asyncio.wait([self.result])
        return self.undo(self.result.result() if _has_result(self.result) else None)


def _has_result(call: asyncio.Future[Any] | None) -> bool:
    return call is not None and call.done() and not call.cancelled() and call.exception() is None


def _shielded_from_anyio() -> AbstractContextManager[Any]:
    """Keep out anyio's cancel scopes, which else cancel again and again until their block
    is left.
    """
    anyio = sys.modules.get("anyio")
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)


class Saga:
    """``async with ctx.saga() as saga``; see ``OrchestrationContext.saga``.

    On exit by an exception, a timeout or a cancel the undos run, and then the exception is raised
    further. On an ordinary exit, and when the instance is terminated, nothing is undone.
    """

    def __init__(self, context: KindsContext, *, parallel: bool, retry: RetryPolicy | None) -> None:
        self._context, self._host = context, host_of(context)
        self._parallel = parallel
        self._retry = retry
        self._entries: list[_Entry] = []

    @overload
    def call(
        self,
        signature: SignatureOf[R],
        *,
        undo: Undo | None = None,
        type: None = None,
        **options: Unpack[CallKeywords],
    ) -> asyncio.Future[R]: ...
    @overload
    def call(
        self,
        signature: Signature,
        *,
        undo: Undo | None = None,
        type: type[T],
        **options: Unpack[CallKeywords],
    ) -> asyncio.Future[T]: ...
    @overload
    def call(
        self,
        signature: Signature,
        *,
        undo: Undo | None = None,
        type: Annotation,
        **options: Unpack[CallKeywords],
    ) -> asyncio.Future[Any]: ...
    @overload
    def call(
        self,
        signature: Mapping[str, Any],
        *,
        undo: Undo | None = None,
        type: None = None,
        **options: Unpack[CallKeywords],
    ) -> asyncio.Future[Any]: ...
    def call(
        self,
        signature: Any,
        *,
        undo: Undo | None = None,
        type: Any = None,
        **options: Unpack[CallKeywords],
    ) -> asyncio.Future[Any]:
        """Run an activity, as ``ctx.call`` does, and remember how to undo it.

        It is undone if it has completed, and also if that is not known: it ran out of time, its
        worker was killed, or it was under way when the block was left. So an undo must be able to
        meet something that was never done. An activity that has failed by itself is not undone.

        Args:
            signature: of the activity, or of a sub-orchestration, or a canvas of them.
            undo: the signature that undoes it, or a function that is given its result (None where
                that is not known, or did not fit ``type``) and returns the signature; None if there
                is nothing to undo.
            type: any annotation: what the result is decoded to, as in ``ctx.call``. What has
                completed is undone also where its result does not fit.
            **options: those of ``ctx.call``.

        Example:
            >>> async with ctx.saga() as saga:
            ...     await saga.call(reserve.s(order), undo=release.s(order), timeout=60)
        """
        commands: list[int] = []
        call = call_logged(self._context, signature, commands, **options)
        result = result_as(self._host, call, type, signature)
        if undo is not None:
            self._entries.append(_Entry(undo, call, commands, result))
        return result

    def add_undo(self, undo: Signature) -> None:
        """Remember an undo of something that was done otherwise, for example by a saga within this
        one.

        Example:
            >>> async with ctx.saga() as saga:
            ...     await ctx.call(reserve.s(order))
            ...     saga.add_undo(release.s(order))
        """
        self._entries.append(_Entry(undo))

    def compensate(self) -> asyncio.Future[None]:
        """Undo now; for orchestrators that are generators, and for leaving without an exception.

        Raises:
            CompensationFailed: (when awaited) an undo has failed; all others have run.

        Example:
            >>> saga = ctx.saga()
            >>> await saga.call(reserve.s(order), undo=release.s(order))
            >>> await saga.compensate()
        """
        return self._host.loop.create_task(self._compensate(None))

    async def _compensate(self, cause: BaseException | None) -> None:
        entries, self._entries = [entry for entry in reversed(self._entries) if entry.is_due], []
        failures: list[tuple[str, BaseException]] = []
        self._host.undone.update(command for entry in entries for command in entry.commands)

        async def undo(entry: _Entry) -> None:
            name = "an undo"
            try:
                signature = await entry.signature()
                name = str(signature.get("task"))
                await self._context.call(signature, retry=self._retry)
            except Exception as error:
                failures.append((name, error))

        if self._parallel:
            await asyncio.gather(*(undo(entry) for entry in entries))
        else:
            for entry in entries:
                await undo(entry)
        if failures:
            text = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures)
            why = f" after {type(cause).__name__}: {cause}" if cause is not None else ""
            raise CompensationFailed(
                f"{len(failures)} of {len(entries)} undos failed{why}: {text}. The others have run;"
                " what is left is for people",
                instance_id=self._host.info.instance_id,
                undos=[name for name, _ in failures],
                errors=[f"{type(error).__name__}: {error}" for _, error in failures],
            )

    # -- the block ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Saga:
        self._host.open_blocks += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._host.open_blocks -= 1
        if error is None or not is_own(error):
            return
        cleaning = self._host.loop.create_task(self._compensate(error))
        with _shielded_from_anyio():
            while not cleaning.done():
                try:
                    await asyncio.shield(cleaning)
                except asyncio.CancelledError:
                    # an outer time-out or a second cancel waits until everything is undone
                    continue
                except Exception:
                    break  # told below
        if (failure := cleaning.exception()) is not None:
            raise failure from error
