"""The clock of a loop that replays, and its timers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context as ContextVars
from typing import Any, Protocol

from .retry import LONGEST
from .tasks import NumberingLoop

__all__ = ["TimedLoop", "TimerHost"]


class TimerHost(Protocol):
    """Who keeps the timers: the execution, which turns them into commands."""

    def timer_created(self, handle: asyncio.TimerHandle, due: int) -> None:
        """Take note of a timer due at ``due`` microseconds since the epoch."""

    def timer_canceled(self, handle: asyncio.TimerHandle) -> None:
        """Take note that the timer is not wanted any more; it may have fired already."""


class TimedLoop(NumberingLoop):
    """A loop whose time is that of history: its timers are commands."""

    def __init__(self, host: TimerHost) -> None:
        self._host = host
        #: When the execution began, and what time it is: microseconds since the epoch.
        self.origin = 0
        self.now = 0

    def keeps_out(self, what: str) -> bool:
        """Tell whether the code that asks for this is no part of a turn."""
        raise NotImplementedError

    def time(self) -> float:
        """Return the seconds since the execution began."""
        return (self.now - self.origin) / 1_000_000

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: ContextVars | None = None,
    ) -> asyncio.Handle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: ContextVars | None = None,
    ) -> asyncio.Handle:
        """See asyncio; a timer is at most a million days ahead."""
        if when == math.inf:
            # never due, as asyncio has it
            return asyncio.TimerHandle(when, callback, args, self, context)
        due = self.now if when == -math.inf else self.origin + round(when * 1_000_000)
        if due <= self.now:
            return self.call_soon(callback, *args, context=context)
        if due - self.now > LONGEST:
            raise ValueError(
                f"a timer is at most 1,000,000 days ahead, not {when - self.time():g} s"
            )
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.keeps_out("call_at()"):
            self._host.timer_created(handle, due)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._host.timer_canceled(handle)
