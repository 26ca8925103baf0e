"""What an orchestrator must not do, found by reading its code: a replay would not come out alike.

The code of an orchestrator is read as text, its names are looked up as Python would, and what it
calls is followed into the functions of the application. What is given to ``ctx.run`` is recorded,
and so is free to do what it likes. Nothing is run.

It finds what is written plainly: what a library does, or a name that is bound at run time, it
cannot see. ``durable_guard`` sees those while they run, and ``celery_durable.testing`` finds them
by replaying. A line that says ``# durable: ignore`` is left alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import FunctionType
from typing import Any

from .lint_calls import Reached, plain
from .lint_reader import Finding, Reader
from .lint_source import is_of_a_library, package_of

__all__ = ["Finding", "lint"]


def lint(name: str, function: Callable[..., Any]) -> list[Finding]:
    """Return what an orchestrator does that a replay may do otherwise, in the order of its code.

    Empty where its code cannot be read.

    Args:
        name: of the orchestrator.
        function: its code.
    """
    first = plain(function)
    own = package_of(first)
    found: list[Finding] = []
    seen: set[Any] = set()
    waiting = deque([Reached(first, None)])
    while waiting:
        each = waiting.popleft()
        if not isinstance(each.function, FunctionType) or is_of_a_library(each.function, own):
            continue
        if (each.function.__code__, each.owner) in seen:
            continue
        seen.add((each.function.__code__, each.owner))
        if (reader := Reader.of(name, each)) is not None:
            found += reader.read()
            waiting += reader.reached
    return sorted(set(found), key=lambda finding: (finding.file, finding.line, finding.what))
