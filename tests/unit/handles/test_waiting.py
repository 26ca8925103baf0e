"""Waiting for the end of an orchestration: how long, how often, and what is said then."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.errors import DurableError, WaitTimeout
from celery_durable.handles.waiting import drivers, pauses, wait_for_end


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.slept = 100.0, list[float]()
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Iterator[Clock]:
    with pytest.MonkeyPatch.context() as patch:
        yield Clock(patch)


def wait(
    timeout: float | None,
    *looks: RuntimeStatus | None,
    is_eager: bool = False,
    is_draining: bool = False,
) -> None:
    """Wait for what has these statuses at each look, and the last one from then on."""
    seen = itertools.chain(looks, itertools.repeat(looks[-1]))

    def read() -> tuple[RuntimeStatus | None, bool]:
        status = next(seen)
        return status, status is not None and status.is_terminal

    wait_for_end(
        "i",
        timeout,
        read,
        is_eager=is_eager,
        is_draining=lambda: is_draining,
        waits_for=lambda: "it waits for 'paid'",
    )


RUNNING, COMPLETED = RuntimeStatus.RUNNING, RuntimeStatus.COMPLETED


def test_what_has_ended_is_not_waited_for(clock: Clock) -> None:
    wait(0, COMPLETED)
    wait(None, COMPLETED, is_draining=True)
    assert clock.slept == []


def test_looks_are_a_moment_apart_at_first_and_a_second_at_last(clock: Clock) -> None:
    wait(None, None, *[RUNNING] * 30, COMPLETED)
    assert clock.slept == list(itertools.islice(pauses(), 31))
    assert clock.slept == sorted(clock.slept)
    assert (clock.slept[0], clock.slept[-1]) == (0.05, 1.0)


@pytest.mark.parametrize("timeout", [0, 0.01, 2, 7.5])
def test_a_wait_takes_as_long_as_it_may_and_no_longer(clock: Clock, timeout: float) -> None:
    with pytest.raises(WaitTimeout, match=f"'i' is RUNNING after {timeout} seconds") as late:
        wait(timeout, RUNNING)
    assert sum(clock.slept) == pytest.approx(timeout)
    assert (late.value.instance_id, late.value.status, late.value.timeout) == (
        "i",
        RUNNING,
        timeout,
    )


def test_one_that_is_not_there_has_not_started(clock: Clock) -> None:
    with pytest.raises(WaitTimeout, match="'i' is not started after 1 seconds"):
        wait(1, None)


@pytest.mark.parametrize("timeout", ["5", [1]])
def test_a_timeout_is_seconds(clock: Clock, timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be seconds"):
        wait(timeout, COMPLETED)


@pytest.mark.parametrize(
    ("status", "what"), [(RUNNING, "it waits for 'paid'"), (None, "it has not begun")]
)
def test_what_cannot_move_while_it_is_waited_for_is_told_at_once(
    clock: Clock, status: RuntimeStatus | None, what: str
) -> None:
    with pytest.raises(DurableError, match=what):
        wait(None, status, is_draining=True)
    assert clock.slept == []


def test_an_eager_wait_without_a_timeout_gives_up_and_one_with_waits_for_it(clock: Clock) -> None:
    with pytest.raises(DurableError, match="where it cannot go on meanwhile"):
        wait(None, RUNNING, is_eager=True)
    assert 10 < sum(clock.slept) < 12
    with pytest.raises(WaitTimeout):
        wait(60, RUNNING, is_eager=True)


def test_a_test_that_plays_the_worker_lets_the_time_pass_itself(clock: Clock) -> None:
    asked: list[float | None] = []
    drivers.append(lambda timeout, is_over: asked.append(timeout))
    try:
        with pytest.raises(WaitTimeout):
            wait(3600, RUNNING)
        wait(None, COMPLETED)
    finally:
        drivers.pop()
    assert (asked, clock.slept) == ([3600, None], [])
