"""``@durable.transactional``: an activity whose rows and whose outcome are one commit in the store's database.

The outermost transactional function of an activity shares its transaction with the outcome; those that its body calls take
part in it. Outside an orchestration it is a transaction like any other.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any

from .store.effects import ISOLATION_LEVELS
from .worker.activity import attempt_of

__all__ = ["make_transactional"]

_open: contextvars.ContextVar[tuple[Any, Any] | None] = contextvars.ContextVar("durable_transaction", default=None)


def make_transactional(durable: Any, function: Callable[..., Any], isolation_level: str | None) -> Callable[..., Any]:
    """Wrap a function that takes ``session``; see ``Durable.transactional``."""
    signature, place = _signature_of(function)
    if isolation_level is not None and isolation_level not in ISOLATION_LEVELS:
        raise ValueError(f"isolation_level must be one of {', '.join(ISOLATION_LEVELS)}, not {isolation_level!r}")
    own = object()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        def call(session: Any) -> Any:
            return function(*args[:place], session, *args[place:], **kwargs)

        def work(session: Any) -> Any:
            token = _open.set((durable, session))
            try:
                return call(session)
            finally:
                _open.reset(token)

        transact = functools.partial(durable.runtime.store.transact_with_session, work, isolation_level=isolation_level)
        if (attempt := attempt_of(own)) is not None:
            return attempt.settle(transact)
        joined = _open.get()
        if joined is not None and joined[0] is durable:
            return call(joined[1])
        return transact(None)[0]

    parameters = list(signature.parameters.values())
    run.__signature__ = signature.replace(parameters=parameters[:place] + parameters[place + 1 :])  # type: ignore[attr-defined]
    run.durable_transactional = own  # type: ignore[attr-defined]
    return run


def _signature_of(function: Callable[..., Any]) -> tuple[inspect.Signature, int]:
    """Return a function's signature, and at which place it takes the session.

    Raises:
        TypeError: it is no plain function that takes one.
    """
    if not inspect.isfunction(function):
        raise TypeError(
            f"@durable.transactional goes on a function, right below @app.task, not on {type(function).__name__}"
        )
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(
            f"{function.__qualname__} cannot be transactional: it is async or a generator, and would run after its transaction"
        )
    signature = inspect.signature(function)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [p.name for p in list(signature.parameters.values())[:2] if p.kind in positional]
    if "session" not in first:
        raise TypeError(
            f"{function.__qualname__} cannot be transactional: it must take 'session' first, or second after 'self' if bound"
        )
    return signature, first.index("session")
