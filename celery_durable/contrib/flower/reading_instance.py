"""What the page of one orchestration shows, read from the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.canvas_options import CanvasOptions
from ...core.commands import shown_in
from ...core.history import Event
from ...engine.verbs.events import RAISE_EVENT
from ...errors import DurableError
from ...handles.orchestration import Orchestration
from ...inspection import drawing, views
from ...inspection.awaiting import EVENT, Awaited, awaited_by
from ...inspection.instance_page import past_of, shown_failure
from .reading import PAGE, Row, announce, row_of
from .texts import LONG, SHORT, cut, fact_text, pretty
from .verbs import flower_verbs

__all__ = ["EVENTS", "InstanceView", "Line", "read_instance"]

EVENTS = 200
_ENTRIES = 20
_NOWHERE = drawing.Links(lambda _: None, lambda _: None)


@dataclass(frozen=True)
class Line:
    """One event of a history."""

    number: int
    kind: str
    at: str | None
    command: int | None
    attempt: int | None
    name: str | None
    text: str
    payload: str | None
    has_failed: bool


@dataclass(frozen=True)
class InstanceView:
    """All that the page of one orchestration shows."""

    id: str
    name: str
    status: str
    has_ended: bool
    facts: list[tuple[str, str]]
    payloads: list[tuple[str, str]]
    parent_id: str | None
    tags: dict[str, str]
    waits_for: list[str]
    last_error: str | None
    advice: str
    children: list[Row]
    verbs: list[str]
    svg: str = ""
    #: With what was before the last rewind; "" if there was none.
    whole_svg: str = ""
    table: str = ""
    #: What went wrong, as ``inspection.instance_page.failure_view`` gives it.
    failure: dict[str, Any] | None = None
    #: The events that it, and the sub-orchestrations that it waits for, wait for now.
    awaited: list[Awaited] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    events: int = 0
    earlier: int | None = None
    problem: str | None = None
    #: Who did what, newest first.
    audit: list[dict[str, Any]] = field(default_factory=list)


def read_instance(
    durable: Any,
    instance_id: str,
    *,
    failed_only: bool = False,
    until: int | None = None,
    links: drawing.Links = _NOWHERE,
) -> InstanceView:
    """Read one orchestration, with at most ``EVENTS`` events of its history, those before ``until``
    or the last ones.

    Raises:
        InstanceNotFound: there is none.
        ValueError: the id cannot be one.
        DurableError: the store cannot be reached.
    """
    announce(durable)
    run = durable.get(instance_id)
    status = run.runtime_status
    shown = _arguments_shown(durable, run)
    explanation = run.explain()
    whole = InstanceView(
        run.id,
        run.name,
        str(status),
        status.is_terminal,
        _facts(run),
        _payloads(run, shown),
        run.parent_id,
        run.tags,
        explanation.waits_for,
        explanation.last_error,
        explanation.advice,
        [row_of(child, "") for child in run.children()[:PAGE]],
        [verb.name for verb in flower_verbs().values() if verb.row.is_offered(run.name, status)],
        audit=[views.audit_view(entry) for entry in run.audit(_ENTRIES)],
        awaited=awaited_by(run, EVENT) if RAISE_EVENT.is_offered(run.name, status) else [],
    )
    return _with_history(whole, run, links, hides=bool(shown), failed_only=failed_only, until=until)


def _with_history(
    whole: InstanceView,
    run: Orchestration,
    links: drawing.Links,
    *,
    hides: bool,
    failed_only: bool,
    until: int | None,
) -> InstanceView:
    values = dict(vars(whole))
    try:
        past = past_of(run, links)
    except DurableError as error:
        return InstanceView(**{**values, "problem": str(error)})
    chosen = [
        (number, event)
        for number, event in enumerate(past.events, 1)
        if not failed_only or views.is_failure(event.kind)
    ]
    before = [pair for pair in chosen if until is None or pair[0] < until]
    last = before[-EVENTS:]
    lines = [_line(run, number, event, hides) for number, event in last]
    earlier = last[0][0] if len(before) > len(last) else None
    values |= {"svg": past.svg, "whole_svg": past.whole_svg, "table": past.table}
    values |= {"failure": None if past.failure is None else shown_failure(past.failure)}
    values |= {"lines": lines, "events": len(past.events), "earlier": earlier}
    return InstanceView(**values)


def _line(run: Orchestration, number: int, event: Event, hides: bool) -> Line:
    try:
        (shown,) = views.timeline_view(
            run, [event], payloads=not hides and not shown_in(event.facts or {})
        )
    except DurableError as error:
        kind, at = str(event.kind), views.iso(event.at)
        return Line(
            number,
            kind,
            at,
            event.command,
            event.attempt,
            event.name,
            str(error),
            None,
            views.is_failure(event.kind),
        )
    facts = ", ".join(fact_text(key, value) for key, value in shown["facts"].items())
    text = "; ".join(filter(None, (shown.get("error"), facts)))
    payload = shown.get("payload")
    return Line(
        number,
        shown["kind"],
        shown["at"],
        shown["command"],
        shown["attempt"],
        shown["name"],
        cut(text, SHORT),
        None if payload is None else pretty(payload, SHORT),
        views.is_failure(event.kind),
    )


def _facts(run: Orchestration) -> list[tuple[str, str]]:
    moments = {
        "created": run.created_at,
        "started": run.started_at,
        "last moved": run.updated_at,
        "ended": run.completed_at,
    }
    found = [
        ("version", run.version or ""),
        *((what, views.iso(at) or "") for what, at in moments.items()),
    ]
    found += [("age", views.age(run.created_at)), ("reason", cut(run.reason or "", SHORT))]
    return [(what, text) for what, text in found if text]


def _payloads(run: Orchestration, shown: Mapping[str, str]) -> list[tuple[str, str]]:
    given = {
        what: _attempted(lambda what=what: getattr(run, what))
        for what in ("custom_status", "output", "failure")
    }
    found: list[tuple[str, str]] = []
    if shown:
        found += [(what.removesuffix("repr"), cut(text, LONG)) for what, text in shown.items()]
    else:
        found.append(("input", pretty(_attempted(lambda: run.input), LONG)))
    if isinstance(given["failure"], BaseException):
        given["failure"] = f"{type(given['failure']).__name__}: {given['failure']}"
    return found + [
        (what.replace("_", " "), pretty(value, LONG))
        for what, value in given.items()
        if value is not None
    ]


def _attempted(read: Any) -> Any:
    try:
        return read()
    except DurableError as error:
        return f"cannot be decoded: {error}"


def _arguments_shown(durable: Any, run: Orchestration) -> dict[str, str]:
    """Return how its caller wanted its arguments to be shown, if he did."""
    runtime = durable.runtime
    record = runtime.client.fetch(run.id)
    try:
        canvas = CanvasOptions.read(runtime.codec, record.canvas)
        return shown_in(canvas.shown or canvas.options)
    except DurableError:
        return {}
