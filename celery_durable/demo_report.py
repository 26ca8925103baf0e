"""What the demo prints and checks: histories, how often activities ran, and what should be so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from .core.history import Event
from .core.kinds import CALL_FAILURES, CALL_RESULTS, CALLS_ASKED
from .core.ports import Codec
from .handles.orchestration import Orchestration

__all__ = [
    "FIRST",
    "KILLED",
    "ORDERS",
    "SECOND",
    "Attempt",
    "checks_of",
    "print_checks",
    "print_table",
    "print_timeline",
]

FIRST, SECOND = "order-1", "order-2"
ORDERS: dict[str, dict[str, Any]] = {
    FIRST: {"id": FIRST, "items": ["lamp", "desk", "piano"], "total": 1240},
    SECOND: {"id": SECOND, "items": ["chair", "rug"], "total": 310},
}
Attempt = tuple[str, str, int]  # order, activity, attempt
KILLED: Attempt = (FIRST, f"charge {ORDERS[FIRST]['total']}", 3)
_ENDS: dict[str, str] = {
    **dict.fromkeys(CALL_RESULTS, "completed"),
    **dict.fromkeys(CALL_FAILURES, "failed"),
}


def _label(codec: Codec, event: Event) -> str:
    (_, *args), _ = codec.decode(event.payload or "")
    return " ".join([event.name.rpartition(".")[2], *map(str, args)])


def _labels(run: Orchestration, history: Sequence[Event]) -> dict[int, str]:
    """Return what the commands of activities are called."""
    codec = run.app.durable.runtime.codec
    return {event.command: _label(codec, event) for event in history if event.kind in CALLS_ASKED}


def _outcomes(run: Orchestration) -> dict[Attempt, list[str]]:
    """Return what history says of each attempt of each activity."""
    history = run.history()
    labels, found = _labels(run, history), dict[Attempt, list[str]]()
    for event in history:
        if event.kind in CALLS_ASKED:
            found[run.id, labels[event.command], event.attempt] = []
        elif event.kind in _ENDS:
            found[run.id, labels[event.command], event.attempt].append(_ENDS[event.kind])
    return found


def print_timeline(run: Orchestration, killed_at: float) -> None:
    """Print a history, with the moment of the kill."""
    history = run.history()
    labels, began = _labels(run, history), history[0].at / 1_000_000
    print(f"\nThe history of {run.id}\n")
    for event in history:
        at = event.at / 1_000_000
        if killed_at and at > killed_at:
            print(f"{killed_at - began:8.3f} s  {'-' * 14} kill -9 {'-' * 14}")
            killed_at = 0.0
        print(f"{at - began:8.3f} s  {event.kind:<20} {_about(event, labels)}".rstrip())


def _about(event: Event, labels: dict[int, str]) -> str:
    facts = event.facts or {}
    if "due" in facts:
        due = timedelta(microseconds=facts["due"] - event.at)
        return f"in {due.days} days" if due.days else f"in {due.total_seconds()} s"
    if "members" in facts:
        return f"of {len(facts['members'])} activities"
    attempt = f"(attempt {event.attempt})" if event.attempt > 1 else ""
    return " ".join(filter(None, (labels.get(event.command) or event.name, attempt)))


def print_table(run: Orchestration, ran: Counter[Attempt]) -> None:
    """Print how often each activity ran, and what history holds of it."""
    print(f"\n{run.id + ': activity':<28} attempt   ran      in history")
    for attempt, outcomes in _outcomes(run).items():
        _, activity, number = attempt
        often = {1: "once", 2: "twice"}.get(ran[attempt], f"{ran[attempt]} times")
        print(f"{activity:<28} {number:>4}      {often:<8} {' and '.join(outcomes) or 'nothing'}")


def checks_of(
    first: Orchestration,
    second: Orchestration,
    ran: Counter[Attempt],
    receipt: Any,
    *,
    is_declined: bool,
) -> Iterator[tuple[str, bool]]:
    """Say what should be, and whether it is."""
    good, bad = _outcomes(first), _outcomes(second)
    taken_back = [
        activity
        for order_id, activity, _ in ran
        if order_id == SECOND and activity.startswith(("refund", "release"))
    ]
    yield (
        f"{FIRST} was shipped",
        isinstance(receipt, dict) and receipt.get("parcel") == f"parcel-of-{FIRST}",
    )
    yield "the charge that was killed ran twice", ran[KILLED] == 2
    yield (
        "everything else ran once",
        all(often == 1 for attempt, often in ran.items() if attempt != KILLED),
    )
    yield (
        "history has one outcome of each attempt",
        all(len(found) == 1 for found in (*good.values(), *bad.values())),
    )
    yield "nothing ran that history does not know", set(ran) == {*good, *bad}
    yield (
        "two charges failed before the third of each order",
        all(
            [
                found
                for (_, activity, _), [found] in outcomes.items()
                if activity.startswith("charge")
            ]
            == ["failed", "failed", "completed"]
            for outcomes in (good, bad)
        ),
    )
    yield f"{SECOND} raised OrderDeclined here, too", is_declined
    yield (
        f"{SECOND} was refunded and released, in reverse order",
        taken_back == ["refund", "release rug", "release chair"],
    )
    yield (
        f"{SECOND} was not shipped",
        not any(activity.startswith("ship") for _, activity, _ in bad),
    )


def print_checks(checks: Iterator[tuple[str, bool]]) -> bool:
    """Print each check, and tell whether all hold."""
    print()
    results = list(checks)
    for text, holds in results:
        print(f"{'ok    ' if holds else 'FAILED'}  {text}")
    return all(holds for _, holds in results)
