"""Ends of activities by their tokens."""

from __future__ import annotations

from typing import Any

import click

from .entry import NOT_POSSIBLE, command, leave
from .output import report
from .parameters import JSON

__all__ = ["complete", "fail"]


@click.command()
@click.argument("token")
@click.option("--data", type=JSON, help="The result, as JSON, @file or -; null if left out.")
@command
def complete(durable: Any, token: str, data: Any) -> None:
    """Give the activity of TOKEN its result.

    TOKEN is what its function got of durable_context().defer().
    """
    _report(durable.complete(token, data), "completed")


@click.command()
@click.argument("token")
@click.option("--error", required=True, help="What has failed, for people.")
@command
def fail(durable: Any, token: str, error: str) -> None:
    """Let the attempt of the activity of TOKEN have failed.

    The retry policy of its call decides what follows.
    """
    _report(durable.fail(token, error), "failed")


def _report(is_recorded: bool, what: str) -> None:
    if is_recorded:
        report(f"the activity is {what}")
        return
    report(
        "nothing is changed: the activity is over already, timed out, was canceled, or is of"
        " another store"
    )
    leave(NOT_POSSIBLE)
