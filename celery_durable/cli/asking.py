"""Asking: ask, query."""

from __future__ import annotations

from typing import Any

import click

from ..engine.querying import UnknownQueryError
from ..errors import DurableError
from ..handles.asking import answer_of, value_of
from ..inspection.views import plain
from .entry import FAILED, NOT_FOUND, TIMED_OUT, command, leave
from .output import print_json, report
from .parameters import JSON, instance_id

__all__ = ["ask", "query"]


@click.command()
@instance_id
@click.argument("name")
@click.option("--data", type=JSON, help="What is asked, as JSON, @file or -.")
@click.option(
    "--timeout", type=float, default=30.0, show_default=True, help="Seconds to wait at most."
)
@click.option("--request-id", help="The same one again is the same request.")
@command
def ask(
    durable: Any, instance_id: str, name: str, data: Any, timeout: float, request_id: str | None
) -> None:
    """Ask one orchestration for NAME, and print its answer as JSON; exit code 5 if it rejects the
    request, 6 if there is no answer in time.
    """
    run = durable.get(instance_id)
    try:
        answer = answer_of(run, name, data, timeout, request_id)
    except TimeoutError as error:
        report(str(error))
        leave(TIMED_OUT)
    if answer.has_failed:
        rejection, _ = durable.runtime.codec.decode_failure(answer.payload or "")
        report(f"{run.id} rejected it: {type(rejection).__name__}: {rejection}")
        leave(FAILED)
    print_json(plain(value_of(run, answer)))


@click.command()
@instance_id
@click.argument("name")
@click.option("-a", "--args", "args", type=JSON, help="What it takes, as a JSON list.")
@click.option("-k", "--kwargs", "kwargs", type=JSON, help="The same by names, as a JSON object.")
@command
def query(durable: Any, instance_id: str, name: str, args: Any, kwargs: Any) -> None:
    """Print what the query NAME says of one orchestration, as JSON; needs its code here."""
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise ValueError("--args is a JSON list, --kwargs a JSON object")
    run = durable.get(instance_id)
    try:
        found = run.query(name, *(args or []), **(kwargs or {}))
    except (DurableError, ValueError, TypeError):
        raise
    except UnknownQueryError as error:
        report(str(error))
        leave(NOT_FOUND)
    except Exception as error:
        report(f"the query failed: {type(error).__name__}: {error}")
        leave(FAILED)
    print_json(plain(found))
