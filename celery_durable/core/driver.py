"""Runs an orchestrator of any form: a coroutine function, a generator, or a plain function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from .futures import as_future
from .kinds import ContinueAsNewRequested
from .loop import ReplayLoop
from .tasks import Abandoned

__all__ = ["run_orchestrator"]


async def run_orchestrator(
    loop: ReplayLoop,
    function: Callable[..., Any],
    context: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Call the orchestrator and return its result."""
    result = function(context, *args, **kwargs)
    if inspect.isgenerator(result):
        return await _drive(loop, result)
    if inspect.isawaitable(result):
        return await result
    return result


# ``source_location`` looks for the local name ``generator`` in this frame
async def _drive(loop: ReplayLoop, generator: Generator[Any, Any, Any]) -> Any:
    resume: Callable[[], Any] = lambda: next(generator)  # noqa: E731
    while True:
        try:
            awaited = resume()
        except StopIteration as stop:
            return stop.value
        try:
            value = await as_future(loop, awaited)
        except ContinueAsNewRequested:
            raise
        except (Exception, asyncio.CancelledError, Abandoned) as error:
            resume = _thrower(generator, error)
        else:
            resume = _sender(generator, value)


def _thrower(generator: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: generator.throw(error)


def _sender(generator: Generator[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: generator.send(value)
