"""``@durable.transactional``: an activity whose rows and whose outcome are one commit in the
store's database.

The outermost transactional function of an activity shares its transaction with the outcome; those
that its body calls take part in it. Outside an orchestration it is a transaction like any other.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..engine.store_ports import ISOLATION_LEVELS
from ..errors import ConfigurationError
from ..interrupts import exposed
from ..worker.activity import attempt_of
from ..worker.deferral import enter_transaction

__all__ = ["make_transactional"]

_open: contextvars.ContextVar[tuple[Any, Any] | None] = contextvars.ContextVar(
    "durable_transaction", default=None
)


def make_transactional(
    durable: Any, function: Callable[..., Any], isolation_level: str | None, using: str | None
) -> Callable[..., Any]:
    """Wrap a function that takes ``session``, or one that uses Django's ORM.

    See ``Durable.transactional``.
    """
    if using is not None:
        if isolation_level is not None:
            raise ValueError(
                "isolation_level goes with session; with using= it is set in the OPTIONS of the"
                " database"
            )
        return _with_alias(durable, function, using)
    return _with_session(durable, function, isolation_level)


def _with_alias(durable: Any, function: Callable[..., Any], alias: str) -> Callable[..., Any]:
    _refuse_odd(function)
    own = object()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        effects = import_module("celery_durable.contrib.django.effects")
        transact_on, hold_on = effects.transact_on, effects.hold_on

        def work() -> Any:
            enter_transaction(functools.partial(hold_on, alias, durable.runtime.store))
            token = _open.set((durable, alias))
            try:
                with exposed():
                    return function(*args, **kwargs)
            finally:
                _open.reset(token)

        transact = functools.partial(transact_on, alias, durable.runtime.store, work)
        if (attempt := attempt_of(own)) is not None:
            return attempt.settlement.run(transact)
        _refuse_other_kind(function, durable, alias)
        return transact(None)[0]

    run.durable_transactional = own  # type: ignore[attr-defined]
    return run


def _refuse_other_kind(function: Callable[..., Any], durable: Any, alias: str | None) -> None:
    """Refuse to take part in the transaction of a transactional activity of the other form, or of
    another alias.

    Raises:
        ConfigurationError: there is one open.
    """
    joined = _open.get()
    if joined is None or joined[0] is not durable:
        return
    if isinstance(joined[1], str) != (alias is not None) or (
        alias is not None and joined[1] != alias
    ):
        raise ConfigurationError(
            f"{function.__qualname__} cannot take part in the transaction of the activity that"
            " calls it: give both the same using=, or let both take a session"
        )


def _with_session(
    durable: Any, function: Callable[..., Any], isolation_level: str | None
) -> Callable[..., Any]:
    signature, place = _signature_of(function)
    if isolation_level is not None and isolation_level not in ISOLATION_LEVELS:
        raise ValueError(
            f"isolation_level must be one of {', '.join(ISOLATION_LEVELS)}, not {isolation_level!r}"
        )
    own = object()

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        def call(session: Any) -> Any:
            return function(*args[:place], session, *args[place:], **kwargs)

        def work(session: Any) -> Any:
            hold = durable.runtime.store.attempts.hold_in_session
            enter_transaction(functools.partial(hold, session))
            token = _open.set((durable, session))
            try:
                with exposed():
                    return call(session)
            finally:
                _open.reset(token)

        transact = functools.partial(
            durable.runtime.store.outcomes.transact_with_session,
            work,
            isolation_level=isolation_level,
        )
        if (attempt := attempt_of(own)) is not None:
            return attempt.settlement.run(transact)
        _refuse_other_kind(function, durable, None)
        joined = _open.get()
        if joined is not None and joined[0] is durable:
            return call(joined[1])
        return transact(None)[0]

    parameters = list(signature.parameters.values())
    shown = signature.replace(parameters=parameters[:place] + parameters[place + 1 :])
    run.__signature__ = shown  # type: ignore[attr-defined]
    run.durable_transactional = own  # type: ignore[attr-defined]
    return run


def _signature_of(function: Callable[..., Any]) -> tuple[inspect.Signature, int]:
    """Return a function's signature, and at which place it takes the session.

    Raises:
        TypeError: it is no plain function that takes one.
    """
    _refuse_odd(function)
    signature = inspect.signature(function)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [p.name for p in list(signature.parameters.values())[:2] if p.kind in positional]
    if "session" not in first:
        raise TypeError(
            f"{function.__qualname__} cannot be transactional: it must take 'session' first, or"
            " second after 'self' if bound"
        )
    return signature, first.index("session")


def _refuse_odd(function: Callable[..., Any]) -> None:
    """Refuse what would run after its transaction.

    Raises:
        TypeError: it is no plain function.
    """
    if not inspect.isfunction(function):
        raise TypeError(
            "@durable.transactional decorates a function, right below @app.task, not"
            f" {type(function).__name__}"
        )
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(
            f"{function.__qualname__} cannot be transactional: it is async or a generator, and"
            " would run after its transaction"
        )
