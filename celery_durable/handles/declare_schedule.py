"""Declaring a schedule: its definition is checked, and written if it is another one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from celery.schedules import crontab

from ..core.canvas_options import CanvasOptions
from ..core.cron import checked_line, zone_of
from ..core.guard import refuse_inside_orchestrator
from ..core.names import check_reason
from ..core.retry import Interval, in_microseconds
from ..engine.audit import SCHEDULE
from ..engine.due import Overlap, ScheduleRow
from ..engine.schedules import check_of
from .schedule import TRIES, Schedule, check_name, moves_too_fast
from .schedule_rows import paused, planned

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.runtime import Runtime
    from ..engine.start import StartRequest
    from ..engine.store_ports import Store
    from ..engine.writes import NewInstance

__all__ = [
    "check_request",
    "create_schedule",
    "cron_text",
    "declare_schedule",
    "defined_row",
    "sample_of",
    "shown_of",
    "times_in",
]

_SHORTEST = 100_000  # microseconds between two ticks
_LONGEST = 100 * 366 * 86_400 * 1_000_000
_DEFINITION = (
    "orchestrator",
    "input",
    "canvas",
    "queue",
    "cron",
    "every",
    "timezone",
    "overlap",
    "catch_up",
    "jitter",
    "is_declared",
)
_TIMING = ("cron", "every", "timezone")


def declare_schedule(
    app: Celery,
    name: str,
    request: StartRequest,
    *,
    cron: Any,
    interval: Any,
    tz: Any,
    overlap: Overlap,
    catch_up: Interval,
    jitter: Interval,
    is_declared: bool | None = None,
) -> Schedule:
    """Make a schedule, or bring it to this definition; see ``Durable.schedule``.

    ``is_declared`` is True of an entry of ``beat_schedule``.
    """
    runtime: Runtime = app.durable.runtime
    row = defined_row(
        app,
        name,
        request,
        cron=cron,
        interval=interval,
        tz=tz,
        overlap=overlap,
        catch_up=catch_up,
        jitter=jitter,
        is_declared=is_declared,
    )
    with runtime.client.auditor.around(SCHEDULE, name, "declare", None, shown_of(row)):
        return Schedule(app, _write(runtime.store, planned(row, row.created_at)))


def create_schedule(
    app: Celery,
    name: str,
    request: StartRequest,
    *,
    is_paused: bool = False,
    reason: str | None = None,
    **definition: Any,
) -> Schedule | None:
    """Make a schedule that is not there yet; None if there is one of this name.

    Args:
        app: whose it is.
        name: of the schedule.
        request: for what it starts.
        is_paused: whether it begins paused.
        reason: why.
        **definition: what ``Durable.schedule`` takes beside.

    Raises:
        ValueError: the definition cannot be used.
        PayloadError: an argument cannot be encoded.
    """
    runtime: Runtime = app.durable.runtime
    check_reason(reason)
    row = defined_row(app, name, request, **definition)
    row = paused(row, reason) if is_paused else planned(row, row.created_at)
    shown = shown_of(row) | ({"paused": True} if is_paused else {})
    with runtime.client.auditor.around(SCHEDULE, name, "declare", reason, shown):
        return Schedule(app, row) if runtime.store.schedules.insert(row) else None


def shown_of(row: ScheduleRow) -> dict[str, Any]:
    """Return what the audit trail keeps of a definition."""
    every = row.every and row.every / 1e6
    return {"orchestrator": row.orchestrator, "cron": row.cron, "interval": every}


def defined_row(
    app: Celery,
    name: str,
    request: StartRequest,
    *,
    cron: Any = None,
    interval: Any = None,
    tz: Any = None,
    overlap: Overlap = "skip",
    catch_up: Interval = 60,
    jitter: Interval = 0,
    is_declared: bool | None = None,
) -> ScheduleRow:
    """Return a schedule of this definition, without a next tick.

    Raises:
        ValueError: the definition cannot be used.
        PayloadError: an argument cannot be encoded.
    """
    refuse_inside_orchestrator("durable.schedule()")
    runtime: Runtime = app.durable.runtime
    check_name(name)
    if name.startswith("@"):
        raise ValueError(
            f"a schedule's name does not begin with '@', as ids of entities do; {name[:40]!r} does"
        )
    check_request(request)
    if overlap not in get_args(Overlap):
        raise ValueError(f"overlap must be 'skip', 'buffer', 'cancel' or 'allow', not {overlap!r}")
    line, every, timezone = times_in(app, cron, interval, tz)
    times = {"catch_up": _length(catch_up, "catch_up"), "jitter": _length(jitter, "jitter")}
    sample = sample_of(runtime, request)
    now = runtime.store.now()
    return ScheduleRow(
        name,
        sample.name,
        sample.input,
        sample.canvas,
        sample.queue,
        line,
        every,
        timezone,
        anchor_at=now,
        overlap=overlap,
        is_paused=False,
        reason=None,
        next_at=None,
        waiting_at=None,
        last_at=None,
        last_id=None,
        skipped=0,
        check_at=None,
        revision=now,
        created_at=now,
        updated_at=now,
        is_declared=is_declared,
        catch_up=times["catch_up"],
        jitter=times["jitter"],
    )


def sample_of(runtime: Runtime, request: StartRequest) -> NewInstance:
    """Return an instance as each tick makes one: no client waits for its reply."""
    canvas = CanvasOptions(request.canvas).without_reply().kept
    return runtime.client.prepare(replace(request, canvas=canvas))


def _write(store: Store, new: ScheduleRow) -> ScheduleRow:
    """Insert or update, and return what is there then."""
    for _ in range(TRIES):
        old: ScheduleRow | None = store.schedules.get(new.name)
        if old is None:
            store.schedules.insert(new)  # the next look tells whose is there
        elif all(getattr(old, name) == getattr(new, name) for name in _DEFINITION):
            return old
        else:
            store.schedules.change(_redefined(old, new))
    raise moves_too_fast(new.name)


def _redefined(old: ScheduleRow, new: ScheduleRow) -> ScheduleRow:
    """Return a schedule with a new definition; its times begin again only if they changed."""
    row = replace(
        old, updated_at=new.created_at, **{name: getattr(new, name) for name in _DEFINITION}
    )
    if all(getattr(old, name) == getattr(new, name) for name in _TIMING):
        # one that is declared again continues where it was
        if row.is_paused:
            return row
        return replace(row, check_at=check_of(row.next_at, row.waiting_at, new.created_at))
    row = replace(row, anchor_at=new.anchor_at)
    return row if row.is_paused else planned(row, new.created_at)


def check_request(request: StartRequest) -> None:
    """Refuse what a schedule decides itself; each instance has an id and a time of its own.

    Raises:
        ValueError: the text says what it has.
    """
    if request.instance_id is not None:
        raise ValueError(
            "a scheduled signature cannot have a task_id: the schedule names its instances"
        )
    if request.start_at is not None:
        raise ValueError(
            "a scheduled signature cannot have a countdown or an eta: the schedule's times are"
            " its own"
        )


def times_in(app: Celery, cron: Any, interval: Any, tz: Any) -> tuple[str | None, int | None, str]:
    """Return a crontab line or an interval in microseconds, and the time zone.

    Raises:
        ValueError: they cannot be used.
        TypeError: one is of another type.
    """
    if (cron is None) == (interval is None):
        raise ValueError(
            "a schedule has either cron= or interval=, and this one has"
            f" {'neither' if cron is None else 'both'}"
        )
    zone = _zone_name(app.conf.timezone or "UTC" if tz is None else tz)
    if interval is None:
        return cron_text(cron), None, zone
    every = _length(interval, "interval")
    if every < _SHORTEST:
        raise ValueError(f"an interval is 0.1 seconds or longer, not {interval!r}")
    return None, every, "UTC"


def cron_text(cron: object) -> str:
    """Return a crontab as a line of five fields: minute, hour, day of month, month, day of week.

    Args:
        cron: such a line, or Celery's ``crontab``.

    Raises:
        TypeError: it is something else.
        ValueError: the line cannot be read.
    """
    if isinstance(cron, str):
        return checked_line(cron)
    if isinstance(cron, crontab):
        minute, hour, weekday, day, month = cron.__reduce__()[1]
        return checked_line(" ".join(map(_field_text, (minute, hour, day, month, weekday))))
    raise TypeError(
        f"cron= takes a crontab line or celery.schedules.crontab, not {type(cron).__name__}"
    )


def _field_text(value: object) -> str:
    if isinstance(value, (set, frozenset, list, tuple)):
        return ",".join(_field_text(part) for part in sorted(value, key=str))
    return "".join(str(value).split())


def _length(value: Interval, what: str) -> int:
    micros = in_microseconds(value, what)
    if micros > _LONGEST:
        raise ValueError(f"{what} is at most 100 years, not {value!r}")
    return micros


def _zone_name(tz: Any) -> str:
    name = tz if isinstance(tz, str) else getattr(tz, "key", None) or str(tz)
    zone_of(name)
    return name
