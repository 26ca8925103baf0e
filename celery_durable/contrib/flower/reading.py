"""The lists that the tab shows, read from the store: functions that wait, called in a thread, and
give plain values.

Values are cut to what a page bears. Where an orchestration was started with Celery's ``argsrepr``
or ``kwargsrepr``, its arguments are shown as these say, and the payloads of its history are not
shown at all; the same holds for what it calls so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...app.switching import shown_pauses
from ...core.status import RuntimeStatus
from ...handles.orchestration import Orchestration
from ...inspection import views
from ...inspection.instance_page import custom_statuses, tally_view
from .texts import SHORT, cut, pretty

__all__ = [
    "PAGE",
    "ListQuery",
    "ListView",
    "Row",
    "announce",
    "read_entities",
    "read_list",
    "read_schedules",
    "row_of",
]

PAGE = 50


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
    tags: dict[str, str] = field(default_factory=dict)
    #: In short; "" if it has none.
    custom_status: str = ""


@dataclass(frozen=True)
class ListView:
    """One page of orchestrations; ``cursor`` leads to the next."""

    rows: list[Row]
    cursor: str | None
    #: What is paused, as ``views.pause_view`` gives it.
    pauses: list[dict[str, Any]] = field(default_factory=list)
    #: How many there are of each status, as ``tally_view`` gives it.
    tally: list[dict[str, Any]] = field(default_factory=list)


def read_list(durable: Any, query: ListQuery) -> ListView:
    """Read one page of orchestrations.

    Raises:
        ValueError: a filter cannot be read.
        DurableError: the store cannot be reached, or is not as it should be.
    """
    announce(durable)
    page = durable.find(limit=PAGE, cursor=query.cursor or None, **query.filters)
    waits = views.current_waits(durable, page.items) if page.items else {}
    statuses = custom_statuses(durable, page.items)
    return ListView(
        [row_of(run, waits.get(run.id, ""), statuses.get(run.id, "")) for run in page.items],
        page.next_cursor,
        [views.pause_view(pause) for pause in shown_pauses(durable)],
        tally_view(durable),
    )


def announce(durable: Any) -> None:
    """Have what is done from here told to Celery's event stream: there is at least one who
    listens.
    """
    if (events := durable.runtime.events) is not None:
        events.turn(True)


def row_of(run: Orchestration, waits_for: str = "", custom_status: str = "") -> Row:
    """Return one line of a list."""
    return Row(
        run.id,
        run.name,
        str(run.runtime_status),
        views.age(run.created_at),
        views.iso(run.created_at),
        waits_for,
        cut(run.reason or "", 300),
        run.tags,
        custom_status,
    )


# -- schedules and entities ------------------------------------------------------------------------


def read_schedules(durable: Any) -> list[dict[str, Any]]:
    """Read all schedules."""
    return [views.schedule_view(schedule) for schedule in durable.schedules()]


def read_entities(durable: Any, name: str, cursor: str) -> tuple[list[dict[str, Any]], str | None]:
    """Read a page of entities, of one class or of all; and the cursor of the next."""
    page = durable.entities(name or None, limit=PAGE, cursor=cursor or None)
    found = [views.entity_view(entity) for entity in page.items]
    return [
        {**entity, "state": pretty(entity["state"], SHORT)} for entity in found
    ], page.next_cursor
