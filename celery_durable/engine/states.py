"""The states of instances, activities and messages, and every move between them, as tables.

Nothing here runs: docs/internals/states.md is drawn from it, and tests hold every commit that they
see against ``INSTANCE``. ``python -m celery_durable.engine.states docs/internals/states.md`` writes
the pictures into the page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.status import RuntimeStatus

__all__ = ["ACTIVITY", "INSTANCE", "MESSAGE", "Move", "State", "allows", "page_with_pictures"]

START = "[*]"
GONE = "[*]"


class Move(NamedTuple):
    """A way out of a state."""

    #: The next state; ``[*]``: the row is deleted.
    to: str
    #: What moves it.
    by: str


class State(NamedTuple):
    """A state, and how it is told from the columns of its row."""

    name: str
    #: The condition on the columns.
    recognized_by: str
    moves: Sequence[Move]


S = RuntimeStatus
_ENDS = (
    Move(S.COMPLETED, "its code returns"),
    Move(S.FAILED, "its code raises"),
    Move(S.CANCELED, "cancel(), or its start has expired"),
    Move(S.TERMINATED, "terminate()"),
)
_REPLACED = Move(GONE, "purge(), retention, or another start in its place")

#: An instance: ``durable_instances.status``.
INSTANCE = (
    State(
        S.PENDING,
        "its first turn is still to come",
        (Move(S.RUNNING, "its first turn"), Move(S.SUSPENDED, "suspend(), or a turn"), *_ENDS),
    ),
    State(
        S.RUNNING,
        "its code has begun",
        (
            Move(S.SUSPENDED, "suspend(), or a turn that cannot be taken"),
            Move(S.RUNNING, "continue-as-new: another execution"),
            *_ENDS,
        ),
    ),
    State(
        S.SUSPENDED,
        "no turn is taken, messages are kept",
        (
            Move(S.PENDING, "resume(), if its code has never begun"),
            Move(S.RUNNING, "resume()"),
            Move(S.TERMINATED, "terminate()"),
        ),
    ),
    State(S.COMPLETED, "it has an output", (_REPLACED,)),
    State(S.FAILED, "it has a failure", (Move(S.RUNNING, "rewind()"), _REPLACED)),
    State(S.CANCELED, "it gave way to a cancel", (_REPLACED,)),
    State(S.TERMINATED, "it was ended from outside", (_REPLACED,)),
)

#: An activity: a row of ``durable_outbox``; its outcome deletes the row.
ACTIVITY = (
    State(
        "throttled",
        "is_held",
        (
            Move("waits", "another one of its window ends"),
            Move("limited", "another one of its window ends, and it has limits"),
            Move(GONE, "canceled, or timed out"),
        ),
    ),
    State(
        "unsent",
        "sent_at is null",
        (
            Move("waits", "recovery sends its message"),
            Move("paused", "its task or its queue is paused"),
            Move(GONE, "canceled"),
        ),
    ),
    State(
        "limited",
        "gate is 'limit'",
        (Move("waits", "all its limits have room"), Move(GONE, "canceled")),
    ),
    State(
        "paused",
        "gate is 'paused'",
        (Move("unsent", "its pause was lifted"), Move(GONE, "canceled")),
    ),
    State(
        "waits",
        "sent_at is set, holder is null",
        (
            Move("runs", "a worker claims it as its body begins"),
            Move("unsent", "the broker could not be reached"),
            Move("waits", "its message is lost: recovery sends it again"),
            Move("paused", "its task or its queue is paused as its message arrives"),
            Move(GONE, "canceled, timed out, or it can never be sent"),
        ),
    ),
    State(
        "runs",
        "holder is set",
        (
            Move("waits", "it asked for a retry, or its worker is dead"),
            Move("delegated", "its task replaced itself"),
            Move("deferred", "its body has returned, and its outcome comes by its token"),
            Move(GONE, "its outcome is in the inbox, or in the commit of a turn"),
            Move(GONE, "canceled: its outcome will be dropped"),
        ),
    ),
    State(
        "delegated",
        "is_delegated",
        (Move("runs", "the task in its place begins"), Move(GONE, "its outcome, or canceled")),
    ),
    State(
        "deferred",
        "deferred_at is set",
        (Move(GONE, "its outcome by its token, timed out, or canceled"),),
    ),
)

#: A message: a row of ``durable_inbox``; the turn that takes it deletes the row.
MESSAGE = (
    State(
        "ahead",
        "visible_at is in the future",
        (Move("waking", "its time comes"), Move(GONE, "its timer is canceled")),
    ),
    State(
        "aside",
        "visible_at is beyond all times",
        (Move("waking", "a commit of its entity shows it"), Move(GONE, "withdrawn")),
    ),
    State(
        "waking",
        "visible, wake_at is set",
        (
            Move("waking", "its turn's message is lost: recovery sends it again"),
            Move("parked", "its instance is suspended, or paused"),
            Move(GONE, "a turn takes it into history"),
            Move(GONE, "its instance has ended: discarded"),
        ),
    ),
    State(
        "riding",
        "visible, wake_at is null",
        (
            Move("waking", "the last member of its join has ended"),
            Move("parked", "its instance is suspended, or paused"),
            Move(GONE, "a turn takes it along"),
        ),
    ),
    State(
        "parked",
        "check_at is null",
        (Move("waking", "resume(), or unpause()"), Move(GONE, "terminate()")),
    ),
)


def allows(before: RuntimeStatus, after: RuntimeStatus) -> bool:
    """Tell whether a commit may move an instance so."""
    moves = next(state.moves for state in INSTANCE if state.name == before)
    return before is after or any(move.to == after for move in moves)


def _picture(states: Sequence[State]) -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {state.name}: {state.name}<br/>{state.recognized_by}" for state in states]
    for state in states:
        lines += [f"    {state.name} --> {move.to}: {move.by}" for move in state.moves]
    return "\n".join([*lines, "```"])


def page_with_pictures(page: str) -> str:
    """Return the page with its pictures as they should be: one below each of its headings."""
    for heading, states in (("Instance", INSTANCE), ("Activity", ACTIVITY), ("Message", MESSAGE)):
        before, title, section = page.partition(f"## {heading}\n")
        section = re.sub(r"(?s)```mermaid\n.*?\n```", _picture(states), section, count=1)
        page = before + title + section
    return page


if __name__ == "__main__":
    path: Path = Path(sys.argv[1])
    path.write_text(page_with_pictures(path.read_text()))
