"""How a run ended, and what of it may not differ from an undisturbed one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from celery_durable.core.history import EventKind
from celery_durable.store.schema import inbox, outbox

from .stage import World

_RANDOM = re.compile(r":[0-9a-f]{8}:")
_COMPLETED = {EventKind.ACTIVITY_COMPLETED, EventKind.CHILD_COMPLETED}
_FAILED = {EventKind.ACTIVITY_FAILED, EventKind.CHILD_FAILED}


@dataclass
class Ending:
    """What a run came to, without what is random or only a matter of time."""

    instances: dict[str, Any]
    outcomes: dict[str, dict[str, list[Any]]]
    told: dict[str, Any]
    noted: set[str]
    bodies: set[tuple[str, str, int, int]]


def ending_of(world: World) -> Ending:
    """Return how a run ended."""
    rows = world.instances()
    ids = {plain(row.id) for row in rows}
    results = {
        plain(key.removeprefix("celery-task-meta-")): json.loads(text)
        for key, text in world.results.items()
    }
    return Ending(
        instances={
            plain(row.id): (
                row.name,
                row.status,
                _text(row.output),
                _failure(row.failure),
                _text(row.custom_status),
            )
            for row in rows
        },
        outcomes={plain(row.id): _by_command(_outcomes(world, row.execution)) for row in rows},
        told={
            key: (meta["status"], plain(json.dumps(meta["result"])))
            for key, meta in results.items()
            if key in ids
        },
        noted={repr(values) for values in world.noted},
        bodies={
            (plain(run.instance), run.name, run.ticket.command, run.ticket.attempt)
            for run in world.ledger
        },
    )


def problems_of(world: World, expected: Ending) -> list[str]:
    """Return everything in which a run is not as it should be."""
    found = list(world.problems)
    ending = ending_of(world)
    for name in ("instances", "outcomes", "told", "noted", "bodies"):
        is_, should = getattr(ending, name), getattr(expected, name)
        if is_ != should:
            found.append(f"{name} differ: {is_} instead of {should}")
    found += [
        f"{run.name} {run.ticket} began after its outcome was recorded"
        for run in world.ledger
        if run.is_late
    ]
    if not world.problems:
        left = (
            world.rows(sa.select(inbox.c.instance, inbox.c.dedup)),
            world.rows(sa.select(outbox.c.instance)),
        )
        if any(left):
            found.append(f"rows are left: {left}")
    return found


def plain(text: str) -> str:
    """Return text without the random parts of the ids of children."""
    return _RANDOM.sub(":X:", text)


def _text(payload: Any) -> str | None:
    return None if payload is None else plain(bytes(payload).decode())


def _failure(payload: Any) -> Any:
    if payload is None:
        return None
    facts = json.loads(payload if isinstance(payload, str) else bytes(payload))
    return facts["type"], plain(facts["message"])


def _by_command(outcomes: Iterator[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Return all that history says of each command: once is as it should be."""
    found: dict[str, list[Any]] = {}
    for key, outcome in outcomes:
        found.setdefault(key, []).append(outcome)
    return found


def _outcomes(world: World, execution: str) -> Iterator[tuple[str, Any]]:
    for event in world.events_of(execution):
        key = f"{event.kind}:{event.command}:{event.attempt}"
        if event.kind in _COMPLETED:
            yield key, plain(event.payload or "")
        elif event.kind in _FAILED:
            yield key, _failure(event.payload)
        elif event.kind is EventKind.EVENT_RAISED:
            yield f"{event.kind}:{event.name}", event.payload
        elif event.kind in (EventKind.TIMER_FIRED, EventKind.CANCEL_REQUESTED):
            yield key, None
