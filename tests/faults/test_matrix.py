"""The crash matrix: whatever call to the store, to the broker or to the result backend goes wrong,
the end is the same.

A process dies before or after a call, freezes at it, is overtaken at it, or is told that it failed;
then there is a new process, which remembers nothing. The end must be that of an undisturbed run:
status, output, the outcome of every command, the children, what Celery was told; no body may begin
after its outcome was recorded; no row and no message may be left.
"""

from __future__ import annotations

from typing import Any

import pytest

from .matrix import Laboratory, undisturbed, walk
from .probe import Mode
from .programs import PROGRAMS, Program

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning"),
]
MODES = [
    Mode.DIES_BEFORE,
    Mode.DIES_AFTER,
    Mode.IS_REPLACED,
    Mode.FAILS_AFTER,
    Mode.FREEZES,
    Mode.IS_OVERTAKEN,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_call_may_go_wrong(
    laboratory: Laboratory, program: Program, record_property: Any
) -> None:
    report = walk(laboratory, program, *MODES, share=1 / len(PROGRAMS))
    assert report.by_mode.keys() == {mode.name for mode in MODES}
    record_property("cases", report.cases)
    assert not report.failures, report.text()


def test_the_programs_touch_everything(laboratory: Laboratory) -> None:
    """The calls are found, not listed: here is what must be among them, so that none gets lost
    unnoticed.
    """
    found = {str(call) for program in PROGRAMS for call in undisturbed(laboratory, program)[0]}
    assert found >= {
        "store.begin",
        "store.heartbeat",
        "store.commit",
        "store.due_activities",
        "store.due_wakes",
        "store.fetch",
        "store.finish_join",
        "store.free_abandoned",
        "store.has_untaken",
        "store.heartbeat",
        "store.insert",
        "store.load",
        "store.read_backlog",
        "store.claimed_by",
        "store.keep",
        "store.report",
        "store.reported_since",
        "store.resend_activities",
        "store.resend_wakes",
        "store.now",
        "store.open_children",
        "store.put",
        "store.record",
        "store.insert_with_turn",
        "store.turn_addresses",
        "store.drop_finish",
        "broker.publish activity",
        "broker.publish turn",
        "broker.publish finish",
        "broker.publish ordinary",
        "broker.ack",
        "backend.set",
    }
