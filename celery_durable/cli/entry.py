"""Where a command begins and how it ends: the application it works on, and errors as messages with
exit codes.
"""

from __future__ import annotations

import functools
import getpass
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click
from celery import Celery

from ..engine.audit import acting
from ..engine.verb import Surface
from ..errors import (
    ConfigurationError,
    DurableError,
    InstanceExists,
    InstanceNotFound,
    InvalidState,
    ScheduleNotFound,
    StoreError,
)

try:
    import pwd
except ImportError:  # Windows has none
    pwd = None  # type: ignore[assignment]

__all__ = [
    "FAILED",
    "NOT_FOUND",
    "NOT_POSSIBLE",
    "TIMED_OUT",
    "application_command",
    "command",
    "durable_of",
    "leave",
]

NOT_FOUND, NOT_POSSIBLE, FAILED, TIMED_OUT = 3, 4, 5, 6
_EXIT_CODES: Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], int]] = (
    ((InstanceNotFound, ScheduleNotFound), NOT_FOUND),
    ((InvalidState, InstanceExists), NOT_POSSIBLE),
    (StoreError, 69),
    (ConfigurationError, 78),
    ((ValueError, TypeError), 2),
    (DurableError, 1),
)


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.__dict__["exit_code"] = exit_code


def app_of(ctx: click.Context) -> Any:
    """Return the Celery application of a command: what the context's object is, or has as ``.app``.

    ``celery -A`` puts an object with ``.app`` there; a caller that invokes the group by
    ``obj=app`` needs no ``-A``. While a shell completes words nothing is there yet, and the option
    itself is read.
    """
    root = ctx.find_root()
    if isinstance(root.obj, Celery):
        return root.obj
    app = getattr(root.obj, "app", None)
    if app is None and (name := root.params.get("app")):
        from celery.app.utils import find_app

        app = find_app(name) if isinstance(name, str) else name
    return app


def durable_of(ctx: click.Context) -> Any:
    """Return the ``Durable`` of the application of a command."""
    app = app_of(ctx)
    if not hasattr(app, "durable"):
        whose = (
            "there is no application" if app is None else f"{app!r} has no durable orchestrations"
        )
        raise _Failure(
            f"{whose}: make a Durable(app), and name the app by -A."
            " What to look at before: celery -A ... durable adopt",
            78,
        )
    app.loader.import_default_modules()
    return app.durable


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the ``Durable`` first, and turn errors into a message and an exit code."""

    @click.pass_context
    @functools.wraps(function)
    def run(ctx: click.Context, *args: Any, **options: Any) -> Any:
        try:
            durable = durable_of(ctx)  # what its modules declare is not the user's doing
            with acting(_user(), Surface.CLI):
                return function(durable, *args, **options)
        except (DurableError, ValueError, TypeError) as error:
            code = next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
            raise _Failure(str(error), code) from error

    return run


def _user() -> str:
    """Return the user of the operating system that runs this process, whatever its environment
    says.
    """
    if pwd is None:
        return getpass.getuser()
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container, say
        return f"uid {number}"


def application_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the application first, whose modules are imported; it need not have a
    ``Durable``.
    """

    @click.pass_context
    @functools.wraps(function)
    def run(ctx: click.Context, *args: Any, **options: Any) -> Any:
        return function(_imported(app_of(ctx)), *args, **options)

    return run


def _imported(app: Any) -> Any:
    if app is None or getattr(app, "main", None) == "default":
        raise _Failure("there is no application: name it by celery -A ... durable adopt", 2)
    try:
        app.loader.import_default_modules()
        app.finalize()
    except Exception as error:
        raise _Failure(
            f"the modules of {app!r} cannot be imported: {type(error).__name__}: {error}", 78
        ) from error
    return app


def leave(exit_code: int) -> NoReturn:
    """End the command with an exit code; all has been said."""
    click.get_current_context().exit(exit_code)
    raise AssertionError("unreachable")
