"""Looking ahead, and cutting history at an event."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.decision import Decision
from celery_durable.core.history import Event, EventKind, dump_events, load_events
from celery_durable.core.kinds import CompleteExecution
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.forecast import Forecast, call_in, forecast, fork_rows
from celery_durable.engine.records import InboxKind, Snapshot
from celery_durable.errors import DurableError

from .rows import NOW, inbox_row, snapshot

STARTED = Event(EventKind.EXECUTION_STARTED, NOW, payload="[[], {}]")
ENDED = Event(EventKind.EXECUTION_COMPLETED, NOW, 9, payload="5")


def asked(command: int, name: str = "charge") -> Event:
    return Event(EventKind.ACTIVITY_SCHEDULED, NOW, command, 1, name)


def done(command: int, payload: str = "1") -> Event:
    return Event(EventKind.ACTIVITY_COMPLETED, NOW, command, 1, payload=payload)


# -- a dry run -------------------------------------------------------------------------------------


class Scene:
    """An engine whose code decides what the test says, and what that was given."""

    def __init__(self, decision: Decision | None = None, *, has_code: bool = True) -> None:
        self.log: list[Any] = []
        self.decision, self.sequence = decision or Decision(), 0
        registry = SimpleNamespace(get=lambda name, version: object() if has_code else None)
        self.engine: Any = SimpleNamespace(
            registry=registry,
            watchdog=SimpleNamespace(watch=self._watch),
            replayer=SimpleNamespace(new=self._new, rewound=self._rewound),
        )

    def _watch(self, instance_id: str, work: Any) -> Any:
        self.log.append(("watched", instance_id))
        return work()

    def _new(self, instance: Any, definition: Any, *, is_dry: bool) -> Any:
        self.log.append(("new", is_dry))
        return self

    def _rewound(
        self, seen: Any, definition: Any, request: Any, events: Sequence[Event], *, is_dry: bool
    ) -> Any:
        self.log.append(("rewound", request.id, [event.name for event in events], is_dry))
        return self, self.decision

    def take(self, events: Sequence[Event]) -> Decision:
        self.log.append(("take", *events))
        return self.decision

    def abandon(self) -> None:
        self.log.append("abandoned")

    def forecast(self, message: Any = None) -> Forecast:
        row = message or inbox_row(1, facts={"by": "me"}, command=2, attempt=3)
        return forecast(self.engine, snapshot([inbox_row(7)]), row)


def test_a_message_is_taken_dry_as_the_event_that_it_would_be() -> None:
    scene = Scene()
    scene.forecast()
    event = Event(EventKind.EVENT_RAISED, NOW, 2, 3, "", "null", {"by": "me"})
    assert scene.log == [("watched", "i"), ("new", True), ("take", event), "abandoned"]


def test_damaged_facts_of_a_message_are_left_out() -> None:
    scene = Scene()
    scene.forecast(inbox_row(1, facts="damaged"))
    [event] = [each[1] for each in scene.log if each[0] == "take"]
    assert event.facts is None


def test_a_rewind_is_run_dry_with_what_waits_in_the_inbox_and_dropped() -> None:
    scene = Scene()
    scene.forecast(inbox_row(3, kind=InboxKind.REWIND))
    assert scene.log == [("watched", "i"), ("rewound", 3, ["paid"], True), "abandoned"]


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        (Decision(), RuntimeStatus.RUNNING),
        (Decision(suspend_reason="odd"), RuntimeStatus.SUSPENDED),
        (Decision(events=[ENDED]), RuntimeStatus.COMPLETED),
        (Decision(events=[Event(EventKind.EXECUTION_FAILED, NOW)]), RuntimeStatus.FAILED),
        (Decision(events=[Event(EventKind.EXECUTION_CANCELED, NOW)]), RuntimeStatus.CANCELED),
    ],
)
def test_a_forecast_has_the_status_that_the_decision_comes_to(
    decision: Decision, status: RuntimeStatus
) -> None:
    found = Scene(decision).forecast()
    assert (found.status, found.reason) == (status, decision.suspend_reason)


def test_a_forecast_reads_as_a_list_of_commands_with_their_numbers() -> None:
    command = CompleteExecution(9, "null")
    found = Scene(Decision(commands=[command])).forecast()
    assert str(found) == f"it would be {found.status}\n  9: {command.describe()}"
    assert str(Forecast(RuntimeStatus.SUSPENDED, [], "odd")) == "it would be SUSPENDED (odd)"


def test_a_dry_run_without_the_code_says_what_it_needs() -> None:
    scene = Scene(has_code=False)
    with pytest.raises(DurableError, match="needs its orchestrator 'flow' in this process"):
        scene.forecast()
    assert scene.log == []


# -- a call ----------------------------------------------------------------------------------------


def test_a_call_is_found_with_its_last_outcome() -> None:
    events = [STARTED, asked(1), asked(2), done(1, "old"), done(2), done(1, "new")]
    assert call_in(events, 1, "i") == (asked(1), done(1, "new"))
    assert call_in(events[:3], 2, "i") == (asked(2), None)


def test_what_is_no_call_is_answered_with_the_calls_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"3 is no activity .* of 'i': those are none so far"):
        call_in([STARTED], 3, "i")
    many = [asked(number, f"t{number}") for number in range(1, 23)]
    with pytest.raises(ValueError, match=r"those are 3 \(t3\), 4 \(t4\), .*, 22 \(t22\)$"):
        call_in(many, 99, "i")


# -- a fork ----------------------------------------------------------------------------------------

ROWS = [[STARTED, asked(1)], [done(1), asked(2), done(2), asked(3)]]


def look(rows: Sequence[Sequence[Event]]) -> Snapshot:
    found = snapshot(sequence=len(rows))
    found.history += [dump_events(row) for row in rows]
    return found


def cut(at: Any, rows: Sequence[Sequence[Event]] = ROWS) -> list[list[tuple[str, int]]]:
    return [[(e.kind, e.command) for e in load_events(row)] for row in fork_rows(look(rows), at)]


def short(*events: Event) -> list[tuple[str, int]]:
    return [(event.kind, event.command) for event in events]


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        (1, [short(STARTED, asked(1))]),
        (2, [short(STARTED, asked(1))]),
        (3, [short(STARTED, asked(1)), short(done(1), asked(2))]),
        (4, [short(STARTED, asked(1)), short(done(1), asked(2))]),
        (5, [short(*row) for row in ROWS]),
        (6, [short(*row) for row in ROWS]),
    ],
)
def test_a_fork_keeps_an_event_with_what_was_asked_for_upon_it(at: int, kept: Any) -> None:
    assert cut(at) == kept


@pytest.mark.parametrize("at", [0, 7, -1, True, 1.0, "1"])
def test_a_fork_at_no_event_says_which_there_are(at: Any) -> None:
    with pytest.raises(ValueError, match="no event .* has the events 1 to 6$"):
        cut(at)


def test_a_fork_without_history_is_refused() -> None:
    with pytest.raises(ValueError, match="'i' has no history to fork yet"):
        cut(1, [])


def test_a_fork_keeps_the_seed_of_the_execution_that_was_recorded() -> None:
    again = STARTED._replace(facts={"seed": "older"})
    for at in (1, 3):
        [start, *_] = load_events(fork_rows(look(ROWS), at)[0])
        assert start.facts == {"seed": "e"}
        [start, *_] = load_events(fork_rows(look([[again, asked(1)], ROWS[1]]), at)[0])
        assert start.facts == {"seed": "older"}


@pytest.mark.parametrize("last", [ENDED, ENDED._replace(kind=EventKind.CONTINUED_AS_NEW)])
def test_a_fork_after_the_end_is_refused(last: Event) -> None:
    rows = [ROWS[0], [done(1), last]]
    with pytest.raises(ValueError, match=f"was over at event 4 \\({last.kind}\\)"):
        cut(4, rows)
    assert cut(2, rows) == [short(*ROWS[0])]


def test_a_fork_amid_a_rewind_is_refused() -> None:
    rewritten = Event(EventKind.HISTORY_REWRITTEN, NOW)
    with pytest.raises(ValueError, match="'i' was being rewound at event 3"):
        cut(3, [ROWS[0], [rewritten, STARTED, asked(1)]])
