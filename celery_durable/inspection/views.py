"""What people are shown of orchestrations: functions that return plain data, the same for every
surface.

Times are ISO 8601 in UTC. Values are what JSON can hold; anything else becomes text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ..core.entity import ORCHESTRATORS
from ..core.flags import check_flags
from ..core.history import Event
from ..core.status import RuntimeStatus
from ..core.text import encodable
from ..core.times import EPOCH
from ..engine.switches import Switched, SwitchKind
from ..errors import PayloadError
from ..handles.audit import AuditEntry
from ..handles.entity import Entity
from ..handles.fields import json_output_of, record_of, runtime_of_handle
from ..handles.limit_use import LimitUse
from ..handles.orchestration import Orchestration
from ..handles.pause import Pause
from ..handles.schedule import Schedule
from .timeline_rows import moment_text

__all__ = [
    "SCHEMA",
    "audit_view",
    "current_waits",
    "entity_view",
    "event_view",
    "instance_view",
    "is_failure",
    "iso",
    "limit_view",
    "pause_view",
    "plain",
    "schedule_view",
    "timeline_view",
    "without_message",
]

#: The version of the shapes below, which JSON output names.
SCHEMA = 1
_MOST_WORDS = 120


def iso(moment: datetime | int | None) -> str | None:
    """Return a moment (or microseconds since the epoch) as text."""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1_000_000, UTC)
    return (
        None
        if moment is None
        else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def without_message(text: str | None) -> str | None:
    """Return a reason or an error for those who may not see payloads: what follows its first colon
    may hold data.
    """
    head, colon, _rest = (text or "").partition(": ")
    return f"{head} (…)" if colon else text


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; NaN and the infinities become texts."""
    return json.loads(json.dumps(value, default=str), parse_constant=str)


def instance_view(run: Orchestration, *, payloads: bool = False) -> dict[str, Any]:
    """Return what is known of an orchestration: id, name, version, status, reason, parent_id, tags
    and times.

    With ``payloads`` also custom_status, input, output, failure and context.
    """
    check_flags(payloads=payloads)
    shown: dict[str, Any] = {
        "id": run.id,
        "name": run.name,
        "version": run.version,
        "status": str(run.runtime_status),
        "reason": run.reason,
        "parent_id": run.parent_id,
        "tags": run.tags,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "updated_at": iso(run.updated_at),
        "completed_at": iso(run.completed_at),
    }
    if payloads:
        failure = run.failure
        shown |= {
            "custom_status": plain(run.custom_status),
            "input": plain(run.input),
            "output": plain(json_output_of(run)),
            "context": plain(dict(run.context)),
            "failure": (
                None
                if failure is None
                else {"type": type(failure).__name__, "message": str(failure)}
            ),
        }
    return shown


def pause_view(pause: Pause) -> dict[str, Any]:
    """Return what is known of a pause: kind, name, reason, since, until, held."""
    return {
        "kind": pause.kind,
        "name": pause.name,
        "reason": pause.reason,
        "since": iso(pause.since),
        "until": None if pause.until is None else iso(pause.until),
        "held": pause.held,
    }


def audit_view(entry: AuditEntry, *, messages: bool = True) -> dict[str, Any]:
    """Return an entry of the audit trail: id, at, actor, door, verb, kind, target, effect, reason,
    arguments, error, made.

    Without ``messages``, what may hold data in reasons and errors is left out.
    """
    reason, error = entry.reason, entry.error
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "actor": entry.actor,
        "door": entry.door,
        "verb": entry.verb,
        "kind": entry.kind,
        "target": entry.target,
        "effect": entry.effect,
        "reason": reason if messages else without_message(reason),
        "arguments": dict(entry.arguments),
        "error": error if messages else without_message(error),
        "made": entry.made,
    }


def limit_view(use: LimitUse) -> dict[str, Any]:
    """Return how far a limit is used: of, name, key, per, most, taken, waiting."""
    return {
        "of": "orchestrator" if use.is_of_orchestrator else "task",
        "name": use.name,
        "key": use.key,
        "per": None if use.per is None else str(use.per),
        "most": use.most,
        "taken": use.taken,
        "waiting": use.waiting,
    }


def timeline_view(
    run: Orchestration, events: Iterable[Event], *, payloads: bool = False
) -> list[dict[str, Any]]:
    """Return the events of a history: number (from 1), kind, at, command, attempt, name, facts, and
    with ``payloads`` payload.
    """
    check_flags(payloads=payloads)
    codec = runtime_of_handle(run).codec
    return [event_view(codec, number, event, payloads) for number, event in enumerate(events, 1)]


def event_view(codec: Any, number: int, event: Event, payloads: bool) -> dict[str, Any]:
    """Return what is known of one event of a history; see ``timeline_view``."""
    shown: dict[str, Any] = {
        "number": number,
        "kind": str(event.kind),
        "at": iso(event.at),
        "command": event.command or None,
        "attempt": event.attempt or None,
        "name": event.name or None,
        "facts": plain(event.facts) if event.facts else {},
    }
    if "due" in shown["facts"]:
        shown["facts"]["due"] = iso(int(shown["facts"]["due"]))
    if event.kind.endswith("Failed") and event.payload:
        error, _ = codec.decode_failure(event.payload, may_rebuild=False)
        shown["error"] = encodable(str(error))
    elif payloads and event.payload is not None:
        try:
            shown["payload"] = plain(codec.decode(event.payload))
        except PayloadError as problem:
            shown["payload"] = f"cannot be decoded: {problem}"
    return shown


def current_waits(durable: Any, runs: Sequence[Orchestration]) -> dict[str, str]:
    """Say in a few words what each of a page of orchestrations waits for, by id.

    "-" for one that is over.

    Two queries for all, and no code of theirs is run: what only their code knows is "event or
    code".
    """
    records = [record_of(run) for run in runs]
    live = [record for record in records if not record.status.is_terminal]
    found = durable.runtime.store.reads.waits(live) if live else {}
    switched = durable.runtime.runner.switches.current()
    words = {record.id: _wait_in_words(record, found.get(record.id), switched) for record in live}
    return {record.id: words.get(record.id, "-") for record in records}


def _wait_in_words(record: Any, waits: Any, switched: Switched) -> str:
    if record.status is RuntimeStatus.SUSPENDED:
        return "resume"
    if (pause := switched.of_turns(record.name, record.version, record.queue)) is not None:
        return _shortened(f"{pause.kind} {pause.name}, which is paused")
    if waits is None:
        is_entity = record.name.startswith(ORCHESTRATORS)
        return _shortened(
            record.reason or ("its next message" if is_entity else "event, request or code")
        )
    parts = []
    if waits.activities:
        again = f" (attempt {waits.attempt})" if waits.attempt > 1 else ""
        end = "completion of " if waits.deferred == waits.activities else ""
        end = "a place for " if waits.limited == waits.activities else end
        if switched.pause(SwitchKind.TASK, waits.activity) is not None:
            again += ", which is paused"
        parts.append(
            f"{end}activity {waits.activity}{again}"
            if waits.activities == 1
            else f"{end}{waits.activities} activities"
        )
    if waits.children:
        parts.append(
            f"child {waits.child}" if waits.children == 1 else f"{waits.children} children"
        )
    if waits.is_waiting_for_admission:
        parts.append("admission")
    if parts:
        return _shortened(", ".join(parts))
    if waits.turn is not None:
        return _shortened(record.reason or "its next turn")
    if waits.start is not None:
        return f"start due {moment_text(waits.start)}"
    until = moment_text(waits.timer)
    if waits.awaits is None:
        return f"timer due {until}"
    return _shortened(f"{' '.join(waits.awaits)}, until {until}")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_WORDS else f"{text[: _MOST_WORDS - 1]}…"


_BAD_ENDS = frozenset({"ExecutionSuspended", "ExecutionCanceled", "ExecutionTerminated"})


def is_failure(kind: str) -> bool:
    """Tell whether an event of this kind is one that people look for when something has
    gone wrong.
    """
    return kind.endswith("Failed") or kind in _BAD_ENDS


def schedule_view(schedule: Schedule) -> dict[str, Any]:
    """Return what is known of a schedule."""
    interval = schedule.interval
    return {
        "name": schedule.name,
        "orchestrator": schedule.orchestrator,
        "cron": schedule.cron,
        "interval": None if interval is None else interval.total_seconds(),
        "tz": schedule.tz,
        "overlap": schedule.overlap,
        "state": schedule.state,
        "is_paused": schedule.is_paused,
        "reason": schedule.reason,
        "next_at": iso(schedule.next_at),
        "last_at": iso(schedule.last_at),
        "last_id": schedule.last_id,
        "skipped": schedule.skipped,
    }


def entity_view(entity: Entity) -> dict[str, Any]:
    """Return what is known of an entity."""
    return {
        "id": entity.id,
        "name": entity.name,
        "key": entity.key,
        "state": plain(entity.state),
        "is_empty": entity.is_empty,
        "locked_by": entity.locked_by,
        "waiting": entity.waiting,
        "updated_at": iso(entity.updated_at),
    }


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was, in one unit."""
    seconds = (datetime.now(UTC) - (moment or EPOCH)).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"
