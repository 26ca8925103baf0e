"""The data of the pages that people look at, once for all of them: Django's admin, Flower's tab,
and pages of an application's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.flags import check_flags
from ..core.history import Event
from ..core.text import encodable
from ..engine.explain import Explanation
from ..errors import PayloadError
from ..handles.orchestration import Orchestration
from . import drawing
from .awaiting import awaited_by
from .failures import FailureView, failure_of
from .timeline import Timeline, since_rewind, timeline_of
from .views import without_message

__all__ = [
    "Past",
    "awaited_view",
    "custom_statuses",
    "explained_view",
    "failure_view",
    "past_of",
    "shown_failure",
    "tally_view",
]

_SHORT = 60


@dataclass(frozen=True)
class Past:
    """What an orchestration has done: its history, what went wrong, and pictures, as markup that is
    escaped.
    """

    events: Sequence[Event]
    failure: FailureView | None
    #: The timeline, since the last rewind if there was one.
    svg: str
    #: The whole one, if there was a rewind; else "".
    whole_svg: str
    #: The whole one, as a table.
    table: str


def past_of(
    run: Orchestration,
    links: drawing.Links,
    shown: Callable[[Timeline], Timeline] = lambda timeline: timeline,
) -> Past:
    """Read what an orchestration has done.

    Args:
        run: the handle.
        links: where names and bars of the pictures lead to.
        shown: what of a timeline is drawn; all of it if left out.

    Raises:
        PayloadError: its history is damaged.
        StoreError: the store cannot be reached.
    """
    whole, events = shown(timeline_of(run)), run.history()
    latest = since_rewind(whole)
    return Past(
        events,
        failure_of(run, events),
        drawing.svg(latest or whole, links=links),
        drawing.svg(whole, links=links) if latest else "",
        drawing.table(whole, links=links),
    )


def explained_view(explanation: Explanation, *, messages: bool = True) -> dict[str, Any]:
    """Return what an orchestration waits for: waits_for, last_error, advice.

    Without ``messages``, what may hold data is left out.
    """
    waits_for, last_error = explanation.waits_for, explanation.last_error
    if not messages:
        waits_for = [without_message(each) or "" for each in waits_for]
        last_error = last_error and ": ".join(last_error.split(": ")[:2])
    return {"waits_for": waits_for, "last_error": last_error, "advice": explanation.advice}


def failure_view(
    run: Orchestration, *, messages: bool = True, events: Sequence[Event] | None = None
) -> dict[str, Any] | None:
    """Return what went wrong with an orchestration, and what to do next; None if nothing has, also
    where all that failed has succeeded since.

    Shape: is_final, calls (what failed, from its own call down to the activity: instance_id, kind,
    name, command, attempt, event), type, message, trace (parts: text, is_library, frames), steps
    (title, text, verb). Without ``messages``, message and trace are empty.

    Args:
        run: the handle.
        messages: whether texts of errors are given.
        events: its history, if it is at hand.

    Raises:
        PayloadError: its history is damaged.
        StoreError: the store cannot be reached.

    Example:
        >>> found = failure_view(durable.get("order-42"))
        >>> found["calls"][-1]["name"], found["type"]
        ('shop.charge', 'shop.errors.CardDeclined')
    """
    check_flags(messages=messages)
    found = failure_of(run, events)
    return None if found is None else shown_failure(found, messages=messages)


def shown_failure(failure: FailureView, *, messages: bool = True) -> dict[str, Any]:
    """Return a failure as ``failure_view`` does."""
    return {
        "is_final": failure.is_final,
        "calls": [
            {
                "instance_id": call.instance_id,
                "kind": call.kind,
                "name": call.name,
                "command": call.command,
                "attempt": call.attempt,
                "event": call.event,
            }
            for call in failure.calls
        ],
        "type": failure.type,
        "message": failure.message if messages else "",
        "trace": [
            {"text": part.text, "is_library": part.is_library, "frames": part.frames}
            for part in (failure.trace if messages else ())
        ],
        "steps": [
            {"title": step.title, "text": step.text, "verb": step.verb} for step in failure.steps
        ],
    }


def awaited_view(run: Orchestration) -> list[dict[str, Any]]:
    """Return the external events and requests that an orchestration waits for now, and the
    sub-orchestrations that it waits for: noun ("event" or "request"), name, instance_id,
    orchestrator.

    What the code alone knows is found where the code is; elsewhere only waits with a time-out are.

    Raises:
        StoreError: the store cannot be reached.

    Example:
        >>> [(each["name"], each["instance_id"]) for each in awaited_view(durable.get("order-42"))]
        [('decision', 'approval-42')]
    """
    return [
        {
            "noun": each.noun,
            "name": each.name,
            "instance_id": each.instance_id,
            "orchestrator": each.orchestrator,
        }
        for each in awaited_by(run)
    ]


def tally_view(durable: Any) -> list[dict[str, Any]]:
    """Return how many orchestrations there are of each status that has any, as far as that is
    cheap: status, count, is_exact (else there are more).

    Raises:
        StoreError: the store cannot be reached.

    Example:
        >>> [(each["status"], each["count"]) for each in tally_view(durable)]
        [('RUNNING', 3), ('FAILED', 1)]
    """
    found = durable.runtime.store.reads.tally()
    return [
        {"status": str(status), "count": each.count, "is_exact": each.is_exact}
        for status, each in found.items()
        if each.count
    ]


def custom_statuses(durable: Any, runs: Sequence[Orchestration]) -> dict[str, str]:
    """Return the custom status of each of a page of orchestrations that has one, as a short text,
    by id; by one query.

    Raises:
        StoreError: the store cannot be reached.
    """
    runtime = durable.runtime
    found = runtime.store.reads.custom_statuses([run.id for run in runs]) if runs else {}
    return {id_: _in_short(runtime.codec, text) for id_, text in found.items()}


def _in_short(codec: Any, text: str) -> str:
    try:
        shown = encodable(str(codec.decode(text)))
    except PayloadError:
        return "?"
    return shown if len(shown) <= _SHORT else f"{shown[:_SHORT]}…"
