"""What pauses keep from beginning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.engine.pausing import Pausing, paused_in_words
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.engine.switches import Switch, Switched
from celery_durable.settings import Settings

from .rows import instance_row

TICKET = ActivityAttemptId("e", 1, 1)
OF_TASK = Switch("task", "charge", None, "down", 0, None)
OF_QUEUE = Switch("queue", "slow", None, None, 0, None)


class Stage:
    """Pauses over a store that says whether it holds, and where an activity's messages go."""

    def __init__(self, *pauses: Switch, holds: bool = True) -> None:
        self.pauses, self.answer = pauses, holds
        self.held: list[tuple[Any, ...]] = []
        self.asked_for_queue = self.refreshed = 0
        rows = SimpleNamespace(hold_turns=self.hold, hold_activity=self.hold, queue_of=self.queue)
        parts: Any = SimpleNamespace(
            store=SimpleNamespace(switches=rows),
            switches=SimpleNamespace(current=lambda: Switched.of(pauses), refresh=self.refresh),
            settings=Settings(worker_lease=30),
        )
        self.pausing = Pausing(parts)

    def hold(self, *given: Any) -> bool:
        self.held.append(given)
        return self.answer

    def queue(self, ticket: ActivityAttemptId) -> str:
        self.asked_for_queue += 1
        return "slow"

    def refresh(self) -> None:
        self.refreshed += 1


def test_without_a_pause_nothing_is_asked() -> None:
    stage = Stage()
    assert not stage.pausing.holds(TICKET, "charge")
    assert (stage.held, stage.asked_for_queue) == ([], 0)


def test_a_paused_task_is_held_for_a_lease_wherever_its_messages_go() -> None:
    stage = Stage(OF_TASK, OF_QUEUE)
    assert stage.pausing.holds(TICKET, "charge")
    assert stage.held == [(TICKET, OF_TASK, 30_000_000)]
    assert stage.asked_for_queue == 0


def test_a_paused_queue_holds_what_goes_there() -> None:
    stage = Stage(OF_QUEUE)
    assert stage.pausing.holds(TICKET, "charge")
    assert (stage.held[0][1], stage.asked_for_queue) == (OF_QUEUE, 1)
    assert not stage.pausing.holds(TICKET, "charge", lambda: "fast")
    assert stage.asked_for_queue == 1  # who knows it is asked instead of the store


def test_the_store_is_not_asked_for_a_queue_while_none_is_paused() -> None:
    stage = Stage(OF_TASK)
    assert not stage.pausing.holds(TICKET, "other")
    assert stage.asked_for_queue == 0


@pytest.mark.parametrize("holds", [True, False])
def test_a_pause_that_was_lifted_meanwhile_is_forgotten(holds: bool) -> None:
    stage = Stage(OF_TASK, holds=holds)
    assert stage.pausing.holds(TICKET, "charge") is holds
    assert stage.pausing.hold_turns(instance_row(), OF_TASK) is holds
    assert stage.held[1] == ("i", "e", OF_TASK)
    assert stage.refreshed == (0 if holds else 2)


@pytest.mark.parametrize(
    ("pause", "words"),
    [
        (OF_QUEUE, "queue 'slow' is paused since 1970-01-01 00:00:00+00:00"),
        (
            OF_TASK._replace(value='{"until": 60000000}'),
            "task 'charge' is paused since 1970-01-01 00:00:00+00:00,"
            " until 1970-01-01 00:01:00+00:00: down",
        ),
    ],
)
def test_people_are_told_since_when_until_when_and_why(pause: Switch, words: str) -> None:
    assert paused_in_words(pause) == words
