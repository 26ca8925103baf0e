"""``ctx.run``: a quick function run inline, whose result is journaled with the turn."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar

from ..._errors import PayloadError
from ..commands import Command
from ..endings import is_own
from ..guard import in_turn
from ..history import Event, EventKind
from ..identity import identity_of, is_same
from ..ports import Host
from .kind import ContextPart, Kind

__all__ = ["RecordRun", "SideEffectContext", "SideEffects"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class RecordRun(Command):
    """Journal what a function run inline gave: a result or a failure."""

    confirmed_by: ClassVar[str] = EventKind.RUN_RECORDED
    has_result: ClassVar[bool] = True
    is_one_shot: ClassVar[bool] = True
    #: The function's name.
    name: str
    #: Its result or its failure, encoded; None before it has run.
    result: str | None = None
    #: Of a failure, whether it could be rebuilt; None for a result.
    rebuilt: bool | list[Any] | None = None
    #: Tells it from other functions of its name (``core.identity``); replay does not read it.
    identity: str = ""

    @property
    def label(self) -> str:
        """Return the function's name."""
        return self.name

    def _payload(self) -> str | None:
        return self.result

    def has_arguments_of(self, event: Event) -> bool:
        """Tell whether the recorded function was this one, as far as both are known."""
        return is_same(self.identity, (event.facts or {}).get("of"))

    def _facts(self) -> dict[str, Any] | None:
        return {
            **({"failed": True, "rebuilt": self.rebuilt} if self.rebuilt is not None else {}),
            **({"of": self.identity} if self.identity else {}),
        } or None

    def agrees_with(self, event: Event) -> bool:
        """Tell whether it is what was recorded, and an exception that it gave is of the same type
        here.
        """
        known = (
            self.rebuilt
            if self.result is None
            else (event.facts or {}).get("rebuilt", self.rebuilt)
        )
        return Command.agrees_with(self, event) and known == self.rebuilt

    def describe(self) -> str:
        """Return the command in a few words.

        What differs may be that this process cannot import the exception.
        """
        cannot = " (whose exception this process cannot import)" if self.rebuilt is False else ""
        return Command.describe(self) + cannot


class SideEffects(Kind):
    """What history holds of functions that the code has not reached yet."""

    name = "function"
    row = "run"
    commands: ClassVar[tuple[type[Command], ...]] = (RecordRun,)
    foreseen: ClassVar[frozenset[str]] = frozenset({EventKind.RUN_RECORDED})

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._recorded: dict[int, Event] = {}

    def foresee(self, event: Event) -> None:
        """Keep a result: the code needs it at once when it comes there."""
        self._recorded[event.command] = event

    def take_recorded(self, run: RecordRun) -> Event | None:
        """Return what history holds of a function run inline, if it is this one."""
        event = self._recorded.pop(run.command, None)
        return (
            event
            if event is not None and run.agrees_with(event) and run.has_arguments_of(event)
            else None
        )

    def end_reexecution(self) -> None:
        """Forget what the code did not come to: it is run when it comes there."""
        self._recorded.clear()


class SideEffectContext(ContextPart):
    """Functions run inline."""

    @in_turn
    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Run a quick function inline.

        Its result, or the exception it raised, is journaled with the turn.

        At least once in the world, exactly once in history. The function may not call the store.

        Raises:
            PayloadError: (when awaited) the result cannot be encoded.

        Example:
            >>> host = await ctx.run(socket.gethostname)
        """
        if inspect.iscoroutinefunction(fn):
            raise TypeError(
                f"ctx.run() runs plain functions, not the coroutine function {fn!r}; await it"
                " directly"
            )
        if isinstance(fn, Mapping):
            raise TypeError("ctx.run() runs plain functions; a signature is for ctx.call()")
        if not callable(fn):
            raise TypeError(f"ctx.run() runs plain functions, not {fn!r}")
        host = self._host
        command = host.next_number()
        run = RecordRun(command, getattr(fn, "__qualname__", type(fn).__name__))
        if not host.is_checked:
            run.identity = identity_of(fn, args, kwargs, host.codec.encode)
        recorded = host.of(SideEffects).take_recorded(run)
        if recorded is None:
            if (
                host.is_checked or host.is_dry
            ):  # history has no such run: the check of the command will say so
                host.ask(run)
                return host.loop.create_future()
            run.result, may_rebuild = _journal(host, fn, args, kwargs)
        else:
            facts = recorded.facts or {}
            run.result, may_rebuild = (
                recorded.payload or "",
                facts.get("rebuilt", True) if facts.get("failed") else None,
            )
        future = host.loop.create_future()
        if may_rebuild is None:
            future.set_result(host.codec.decode(run.result))
        else:
            error, run.rebuilt = host.codec.decode_failure(run.result, may_rebuild=may_rebuild)
            future.set_exception(error)
        host.ask(run)
        return future


def _journal(
    host: Host, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, bool | None]:
    """Run a function, and return the result and None, or the failure and True."""
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        if not is_own(error):
            raise
        return host.codec.encode_failure(error), True
    try:
        return host.codec.encode(value), None
    except PayloadError as problem:
        return host.codec.encode_failure(PayloadError(f"ctx.run() got {problem}")), True
