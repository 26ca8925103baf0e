"""What the tab shows, read from the store: functions that wait, called in a thread, and give plain
values.

Values are cut to what a page bears. Where an orchestration was started with Celery's ``argsrepr``
or ``kwargsrepr``, its arguments are shown as these say, and the payloads of its history are not
shown at all; the same holds for what it calls so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.canvas_options import CanvasOptions
from ...core.commands import shown_in
from ...core.history import Event
from ...core.status import RuntimeStatus
from ...core.text import encodable
from ...errors import DurableError
from ...handles.orchestration import Orchestration
from ...inspection import drawing, views
from ...inspection.timeline import timeline_of
from .verbs import flower_verbs

__all__ = [
    "PAGE",
    "InstanceView",
    "ListQuery",
    "ListView",
    "Row",
    "read_entities",
    "read_instance",
    "read_list",
    "read_schedules",
]

PAGE = 50
EVENTS = 200
_ENTRIES = 20
_LONG, _SHORT = 64 * 1024, 4 * 1024


@dataclass(frozen=True)
class ListQuery:
    """The filters of the list, as its URL has them."""

    status: str = ""
    name: str = ""
    prefix: str = ""
    tags: str = ""
    stuck: bool = False
    cursor: str = ""

    @property
    def filters(self) -> dict[str, Any]:
        """The same as ``durable.find`` takes them.

        Raises:
            ValueError: one cannot be read.
        """
        found: dict[str, Any] = {}
        if self.status:
            if self.status not in RuntimeStatus.__members__:
                raise ValueError(f"there is no status {self.status!r}")
            found["status"] = self.status
        if self.name:
            found["name"] = self.name
        if self.prefix:
            found["id_prefix"] = self.prefix
        if self.stuck:
            found["stuck"] = True
        if self.tags:
            found["tags"] = read_tags(self.tags)
        return found

    def as_arguments(self, **changed: Any) -> dict[str, Any]:
        """Return the arguments of a link to this list, or to one like it."""
        own = {
            "status": self.status,
            "name": self.name,
            "prefix": self.prefix,
            "tags": self.tags,
            "stuck": "1" if self.stuck else "",
            "cursor": self.cursor,
        }
        return own | changed


def read_tags(text: str) -> dict[str, str]:
    """Return tags from ``key=value, key=value``.

    Raises:
        ValueError: a part has no ``=``.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"a tag is written key=value; {part[:60]!r} is not")
        found[key.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class Row:
    """One line of a list."""

    id: str
    name: str
    status: str
    age: str
    created_at: str | None
    waits_for: str
    reason: str


@dataclass(frozen=True)
class ListView:
    """One page of orchestrations; ``cursor`` leads to the next."""

    rows: list[Row]
    cursor: str | None
    #: What is paused, as ``views.pause_view`` gives it.
    pauses: list[dict[str, Any]] = field(default_factory=list)


def read_list(durable: Any, query: ListQuery) -> ListView:
    """Read one page of orchestrations.

    Raises:
        ValueError: a filter cannot be read.
        DurableError: the store cannot be reached, or is not as it should be.
    """
    announce(durable)
    page = durable.find(limit=PAGE, cursor=query.cursor or None, **query.filters)
    waits = views.current_waits(durable, page.items) if page.items else {}
    return ListView(
        [_row(run, waits.get(run.id, "")) for run in page.items],
        page.next_cursor,
        [views.pause_view(pause) for pause in durable._shown_pauses()],
    )


def announce(durable: Any) -> None:
    """Have what is done from here told to Celery's event stream: there is at least one who
    listens.
    """
    if (events := durable.runtime.events) is not None:
        events.turn(True)


def _row(run: Orchestration, waits_for: str) -> Row:
    return Row(
        run.id,
        run.name,
        str(run.runtime_status),
        views.age(run.created_at),
        views.iso(run.created_at),
        waits_for,
        cut(run.reason or "", 300),
    )


# -- one orchestration -----------------------------------------------------------------------------


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
    table: str = ""
    lines: list[Line] = field(default_factory=list)
    events: int = 0
    earlier: int | None = None
    problem: str | None = None
    #: Who did what, newest first.
    audit: list[dict[str, Any]] = field(default_factory=list)


def read_instance(
    durable: Any, instance_id: str, *, failed_only: bool = False, until: int | None = None
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
        [_row(child, "") for child in run.children()[:PAGE]],
        [verb.name for verb in flower_verbs().values() if verb.row.is_offered(run.name, status)],
        audit=[views.audit_view(entry) for entry in run.audit(_ENTRIES)],
    )
    return _with_history(whole, run, hides=bool(shown), failed_only=failed_only, until=until)


def _with_history(
    whole: InstanceView, run: Orchestration, *, hides: bool, failed_only: bool, until: int | None
) -> InstanceView:
    values = dict(vars(whole))
    try:
        timeline = timeline_of(run)
        values |= {"svg": drawing.svg(timeline), "table": drawing.table(timeline)}
        events = run.history()
    except DurableError as error:
        return InstanceView(**{**values, "problem": str(error)})
    chosen = [
        (number, event)
        for number, event in enumerate(events, 1)
        if not failed_only or views.is_failure(event.kind)
    ]
    before = [pair for pair in chosen if until is None or pair[0] < until]
    last = before[-EVENTS:]
    lines = [_line(run, number, event, hides) for number, event in last]
    earlier = last[0][0] if len(before) > len(last) else None
    return InstanceView(**{**values, "lines": lines, "events": len(events), "earlier": earlier})


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
    facts = ", ".join(_fact(key, value) for key, value in shown["facts"].items())
    text = "; ".join(filter(None, (shown.get("error"), facts)))
    payload = shown.get("payload")
    return Line(
        number,
        shown["kind"],
        shown["at"],
        shown["command"],
        shown["attempt"],
        shown["name"],
        cut(text, _SHORT),
        None if payload is None else pretty(payload, _SHORT),
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
    found += [("age", views.age(run.created_at)), ("reason", cut(run.reason or "", _SHORT))]
    return [(what, text) for what, text in found if text]


def _payloads(run: Orchestration, shown: Mapping[str, str]) -> list[tuple[str, str]]:
    given = {
        what: _attempted(lambda what=what: getattr(run, what))
        for what in ("custom_status", "output", "failure")
    }
    found: list[tuple[str, str]] = []
    if shown:
        found += [(what.removesuffix("repr"), cut(text, _LONG)) for what, text in shown.items()]
    else:
        found.append(("input", pretty(_attempted(lambda: run.input), _LONG)))
    if isinstance(given["failure"], BaseException):
        given["failure"] = f"{type(given['failure']).__name__}: {given['failure']}"
    return found + [
        (what.replace("_", " "), pretty(value, _LONG))
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


# -- schedules and entities ------------------------------------------------------------------------


def read_schedules(durable: Any) -> list[dict[str, Any]]:
    """Read all schedules."""
    return [views.schedule_view(schedule) for schedule in durable.schedules()]


def read_entities(durable: Any, name: str, cursor: str) -> tuple[list[dict[str, Any]], str | None]:
    """Read a page of entities, of one class or of all; and the cursor of the next."""
    page = durable.entities(name or None, limit=PAGE, cursor=cursor or None)
    found = [views.entity_view(entity) for entity in page.items]
    return [
        {**entity, "state": pretty(entity["state"], _SHORT)} for entity in found
    ], page.next_cursor


# -- text ------------------------------------------------------------------------------------------


def pretty(value: Any, longest: int) -> str:
    """Return a value as JSON to read, cut to so many characters."""
    if isinstance(value, str):
        return cut(value, longest)
    return cut(json.dumps(value, indent=2, ensure_ascii=False, default=str), longest)


def cut(text: str, longest: int) -> str:
    """Return text, or its beginning and how much more there is."""
    text = encodable(text)
    if len(text) <= longest:
        return text
    return (
        f"{text[:longest]}\n... and {len(text) - longest} more characters: celery durable show"
        " --payloads has all"
    )


def _fact(key: str, value: Any) -> str:
    if key == "ran" and isinstance(value, int):
        return f"ran for {value / 1000:.1f} ms"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"{key}: {text}"
