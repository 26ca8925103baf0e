"""An interruption ends the turn that it was meant for, whatever it meets on its way, and nothing
that comes after.
"""

from __future__ import annotations

import sys
import threading
import time

import pytest

from celery_durable.core.loop import TurnInterrupted, watched
from celery_durable.engine import watchdog as watchdogs
from celery_durable.engine.watchdog import Watchdog
from celery_durable.errors import TurnLimitExceeded


@pytest.fixture
def dog():
    """A watchdog for which every turn is late, and that looks only when a test lets it."""
    dog = Watchdog(0)
    dog._thread = threading.current_thread()
    return dog


class Interrupting:
    """Lets the watchdog look as often as a line of its own module, or of the turn, is about to be
    run for the n-th time.
    """

    def __init__(self, dog, *places):
        self.dog, self.places, self.count = dog, places, 0

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename not in (watchdogs.__file__, __file__):
            return None
        if event in ("line", "return") and frame.f_code.co_name in (
            "watch",
            "_begin",
            "_end",
            "turn",
        ):
            self.count += 1
            if self.count in self.places and self.dog._lock.acquire(blocking=False):
                sys.settrace(None)
                try:
                    self.dog._interrupt_late()
                finally:
                    self.dog._lock.release()
                    sys.settrace(self)
        return self


def taken(dog, *places, error=None):
    """Take a turn that is interrupted at these places.

    Return what it came to, and how many places there are.
    """

    def turn():
        seen = 0
        for number in range(3):
            seen += number
        if error is not None:
            raise error
        return seen

    interrupting = Interrupting(dog, *places)
    outer = sys.gettrace()
    sys.settrace(interrupting)
    try:
        result = dog.watch("i", turn)
    except BaseException as problem:
        result = problem
    finally:
        sys.settrace(outer)
    return result, interrupting.count


@pytest.mark.parametrize("error", [None, ValueError("its own")])
def test_an_interruption_at_any_line_becomes_the_end_of_the_turn_and_is_not_seen_again(dog, error):
    _, lines = taken(dog, error=error)
    assert lines > 15
    outcomes = set()
    for first in range(1, lines + 1):
        for second in (0, first + 1, first + 2):
            result, _ = taken(dog, first, second, error=error)
            time.sleep(0)
            assert sum(range(200)) == 19_900  # nothing is on its way any more
            assert not dog._watches
            assert not dog._lock.locked()
            assert watched.turn is None
            assert not isinstance(result, TurnInterrupted)
            outcomes.add(type(result))
    assert outcomes == {TurnLimitExceeded, type(error) if error else int}


def test_what_is_over_is_not_interrupted(dog):
    def turn():
        (watch,) = dog._watches
        watch.is_over = True
        dog._interrupt_late()
        return watch.was_interrupted

    assert dog.watch("i", turn) is False


def test_a_turn_within_a_turn_is_watched_by_itself():
    dog = Watchdog(60)
    seen = []

    def inner():
        seen.append(watched.turn)

    def outer():
        seen.append(watched.turn)
        dog.watch("inner", inner)
        seen.append(watched.turn)

    dog.watch("outer", outer)
    assert seen[0] is seen[2] is not seen[1]
    assert watched.turn is None
