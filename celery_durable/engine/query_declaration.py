"""``@orchestrator.query``: how the queries of an orchestrator are declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..core.names import checked_name
from .registry import refuse_another

__all__ = ["QueryDeclaration"]


class QueryDeclaration:
    """Declares queries of one version of an orchestrator; see ``OrchestratorTask.query``."""

    def __init__(self, orchestrator: str, queries: dict[str, Callable[..., Any]]) -> None:
        self._orchestrator = orchestrator
        self._queries = queries

    def __call__(
        self, function: Callable[..., Any] | None = None, *, name: str | None = None
    ) -> Any:
        """Declare a function, or return the decorator that does."""
        if function is None:
            return lambda chosen: self(chosen, name=name)
        if not callable(function):
            raise TypeError(f"a query is a function, not {type(function).__name__}")
        called = getattr(function, "__call__", function)  # noqa: B004  of an object
        if any(map(_is_async, (function, called))):
            raise TypeError(
                f"a query is a plain function that looks at the state, not an `async def`:"
                f" {function!r}"
            )
        chosen = checked_name(
            getattr(function, "__name__", "") if name is None else name, "the name of a query"
        )
        if (known := self._queries.get(chosen)) is not None:
            refuse_another(f"query {chosen!r} of {self._orchestrator}", None, known, function)
        self._queries[chosen] = function
        return function


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
