"""Tasks that pause themselves: what is counted, and what is not."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.pause_after import PauseAfter
from celery_durable.engine.breakers import Breakers
from celery_durable.engine.switches import Switch, Switched
from celery_durable.errors import ConfigurationError, StoreError

RULE = PauseAfter(failures=3, per=60, for_=300)
PAUSE = Switch("task", "charge", None, "why", 0, None)


class Stage:
    """Breakers over a store that counts, and a board that knows the pauses."""

    def __init__(self, rule: Any = RULE, known: tuple[Switch, ...] = ()) -> None:
        self.rule, self.known = rule, known
        self.counted: list[tuple[Any, ...]] = []
        self.answer: Switch | None = None
        self.refreshed = 0
        parts: Any = SimpleNamespace(
            tasks=SimpleNamespace(pause_after_of=self.pause_after_of),
            switches=SimpleNamespace(current=lambda: Switched.of(self.known), refresh=self.refresh),
            store=SimpleNamespace(switches=SimpleNamespace(count_failure=self.count_failure)),
        )
        self.breakers = Breakers(parts)

    def pause_after_of(self, task: str) -> PauseAfter | None:
        if isinstance(self.rule, Exception):
            raise self.rule
        rule: PauseAfter | None = self.rule
        return rule

    def count_failure(self, *given: Any) -> Switch | None:
        self.counted.append(given)
        return self.answer

    def refresh(self) -> None:
        self.refreshed += 1

    def fail(self, error: BaseException | None = None) -> None:
        self.breakers.note_failure("charge", error or OSError("down"))


def test_a_failure_is_counted_by_the_rule_of_its_task() -> None:
    stage = Stage()
    stage.fail()
    reason = "paused by itself: 3 failures in 60 s; the last: OSError: down"
    assert stage.counted == [("charge", 3, 60_000_000, 300_000_000, reason)]
    assert stage.refreshed == 0


def test_the_failure_that_pauses_is_known_here_at_once(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.answer = PAUSE
    stage.fail()
    assert stage.refreshed == 1
    assert "task 'charge' is paused by itself: 3 failures" in caplog.text


@pytest.mark.parametrize(
    "known", [PAUSE, PAUSE._replace(name="char*")], ids=["by its name", "by a pattern"]
)
def test_what_is_paused_already_is_not_counted(known: Switch) -> None:
    stage = Stage(known=(known,))
    stage.fail()
    assert stage.counted == []


@pytest.mark.parametrize(
    "known",
    [PAUSE._replace(lifted_at=1), PAUSE._replace(kind="queue"), PAUSE._replace(name="other")],
    ids=["lifted", "of a queue", "of another task"],
)
def test_other_pauses_do_not_matter(known: Switch) -> None:
    stage = Stage(known=(known,))
    stage.fail()
    assert len(stage.counted) == 1


def test_a_task_without_a_rule_costs_nothing() -> None:
    stage = Stage(rule=None)
    stage.fail()
    assert stage.counted == []


@pytest.mark.parametrize("error", [StoreError("gone"), ConfigurationError("odd")])
def test_what_fails_here_is_logged_alone(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Stage(rule=error).fail()
    assert "a failure of task 'charge' could not be counted" in caplog.text


def test_a_long_error_is_shortened() -> None:
    stage = Stage()
    stage.fail(ValueError("x" * 500))
    reason = stage.counted[0][-1]
    assert reason.endswith("xxx...")
    assert len(reason) < 300
