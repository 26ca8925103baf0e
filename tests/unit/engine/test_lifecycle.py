"""Moves that no orchestrator decides: what each commits, and what it leaves alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.core.history import Event, EventKind, load_events
from celery_durable.core.status import MOVING, RuntimeStatus
from celery_durable.engine.lifecycle import Lifecycle
from celery_durable.engine.records import InboxKind, Snapshot
from celery_durable.engine.replay import StaleReadError
from celery_durable.engine.writes import Committed, TurnCommit
from celery_durable.errors import NonDeterminismError, PayloadError, StoreError
from celery_durable.payload import PayloadCodec

from .compilers.drafts import Asked
from .rows import NOW, inbox_row, instance_row, snapshot


class Scene:
    """The moves, and what they do, in order."""

    def __init__(self, *, has_moved: bool = False) -> None:
        self.log: list[str] = []
        self.commits: list[TurnCommit] = []
        self.discarded: list[int] = []
        self.replies: list[Any] = []
        self.notes: list[str] = []
        self.has_moved, self.stored = has_moved, snapshot()
        self.record: Any = None
        self.known: Any = None
        self.note_error: Exception | None = None
        turns = SimpleNamespace(
            commit=self._commit, load=self._load, discard=self._discard, note_waiting=self._note
        )
        reads = SimpleNamespace(open_children=lambda _: ["d", "c"], fetch=lambda _: self.record)
        live = SimpleNamespace(
            take_instance=lambda _: SimpleNamespace(abandon=self._say("dropped"))
        )
        notifier = SimpleNamespace(committed=self._say("told"))
        parts: Any = SimpleNamespace(
            store=SimpleNamespace(turns=turns, reads=reads, inbox=SimpleNamespace(put=self._put)),
            registry=SimpleNamespace(get=lambda *_: None),
            publisher=Asked(),
            codec=PayloadCodec(),
            live=live,
            notifier=notifier,
        )
        admission: Any = SimpleNamespace(complete=self._say("completed"))
        dispatcher: Any = SimpleNamespace(send=self._say("sent"), turns_of=self._say("turns"))
        unused: Any = None
        self.moves = Lifecycle(parts, unused, admission, dispatcher)

    def _say(self, word: str) -> Any:
        return lambda *_, **__: self.log.append(word)

    def _commit(self, commit: TurnCommit) -> Committed | None:
        self.log.append("commit")
        self.commits.append(commit)
        return None if self.has_moved else Committed(NOW)

    def _load(self, instance_id: str, known: Any) -> Snapshot:
        self.known = known
        return self.stored

    def _put(self, replies: Any) -> None:
        self.log.append("put")
        self.replies += replies

    def _discard(self, instance_id: str, execution: str, rows: list[int]) -> None:
        self.log.append("discard")
        self.discarded += rows

    def _note(self, instance_id: str, text: str) -> None:
        self.notes.append(text)
        if self.note_error is not None:
            raise self.note_error

    @property
    def commit(self) -> TurnCommit:
        [found] = self.commits
        return found

    @property
    def event(self) -> Event:
        assert self.commit.events is not None
        [found] = load_events(self.commit.events)
        return found


# -- suspended -------------------------------------------------------------------------------------


def test_a_suspension_notes_its_reason_and_parks_the_inbox() -> None:
    scene = Scene()
    assert scene.moves.suspend(snapshot(sequence=4), "odd")
    commit = scene.commit
    assert scene.event == Event(EventKind.EXECUTION_SUSPENDED, NOW, facts={"reason": "odd"})
    assert (commit.status, commit.reason) == (RuntimeStatus.SUSPENDED, "odd")
    assert (commit.sequence, commit.statuses) == (4, MOVING)
    assert commit.parks_inbox and scene.log == ["commit", "told"]


def test_an_instance_that_has_moved_is_not_suspended_and_no_observer_told() -> None:
    scene = Scene(has_moved=True)
    assert not scene.moves.suspend(snapshot(), "odd")
    assert scene.log == ["commit"]


def test_code_that_does_not_fit_suspends_with_advice_and_other_errors_without() -> None:
    advice = "Restore the old code, then resume it"
    unfit, other = Scene(), Scene()
    assert unfit.moves.suspend_for(snapshot(), NonDeterminismError("changed"))
    assert other.moves.suspend_for(snapshot(), PayloadError("damaged"))
    assert unfit.commit.reason is not None and advice in unfit.commit.reason
    assert other.commit.reason == "PayloadError: damaged"


def test_a_stale_read_suspends_nothing() -> None:
    scene = Scene()
    assert not scene.moves.suspend_for(snapshot(), StaleReadError("moved"))
    assert scene.log == []


@pytest.mark.parametrize("status", list(RuntimeStatus))
def test_only_what_moves_is_suspended_for_an_error(status: RuntimeStatus) -> None:
    scene = Scene()
    scene.stored = snapshot(status=status)
    scene.moves.suspend_moving("i", PayloadError("damaged"))
    assert len(scene.commits) == (status in MOVING)


def test_a_history_that_is_not_to_be_read_is_not_read() -> None:
    scene = Scene()
    assert not scene.moves.suspend_unread("gone", "crashes")
    assert scene.commits == []
    scene.record = SimpleNamespace(execution="e")
    assert scene.moves.suspend_unread("i", "crashes")
    assert scene.known == ("e", 2**31 - 1)


def test_a_turn_that_broke_off_is_noted_also_where_the_store_is_down() -> None:
    scene = Scene()
    scene.note_error = StoreError("down")
    scene.moves.note_break("i", MemoryError("full"))
    assert scene.notes == ["takes its turn again, which broke off: MemoryError: full"]


# -- ended -----------------------------------------------------------------------------------------


def test_an_end_is_told_and_sent_once_it_is_committed() -> None:
    scene = Scene()
    assert scene.moves.end(snapshot(sequence=0), "enough", "5")
    commit = scene.commit
    assert scene.event.facts == {"reason": "enough"}
    assert (commit.status, commit.output, commit.clears) == (RuntimeStatus.TERMINATED, "5", True)
    assert scene.log == ["completed", "commit", "dropped", "told", "sent"]


def test_an_end_that_did_not_count_drops_and_sends_nothing() -> None:
    scene = Scene(has_moved=True)
    assert not scene.moves.end(snapshot(sequence=0), None, None)
    assert scene.log == ["completed", "commit"]


@pytest.mark.parametrize(
    ("facts", "children"),
    [(None, ["c", "d"]), ({"recursive": True}, ["c", "d"]), ({"recursive": False}, [])],
)
def test_a_request_to_terminate_reaches_children_unless_it_says_otherwise(
    facts: Any, children: list[str]
) -> None:
    scene = Scene()
    request = inbox_row(1, kind=InboxKind.TERMINATE, payload="7", facts=facts)
    assert scene.moves.terminate(snapshot(sequence=0), request)
    assert [each.instance for each in scene.commit.other_inboxes] == children
    assert scene.commit.output == "7"


def test_an_end_reads_the_whole_history_where_a_part_is_known() -> None:
    scene = Scene()
    scene.stored = snapshot(execution="next")
    assert not scene.moves.end(snapshot(), None, None)  # it is of another execution by now
    assert scene.log == []
    scene.stored = snapshot()
    assert scene.moves.end(snapshot(), None, None)


def test_an_instance_that_failed_keeps_what_a_rewind_delivers() -> None:
    inbox = [inbox_row(1), inbox_row(2, kind=InboxKind.JOIN), inbox_row(3)]
    failed, completed = Scene(), Scene()
    failed.moves.discard(instance_row(status=RuntimeStatus.FAILED), inbox)
    completed.moves.discard(instance_row(status=RuntimeStatus.COMPLETED), inbox)
    assert (failed.discarded, completed.discarded) == ([2], [1, 2, 3])
    assert completed.log == ["discard"]


def test_a_parent_hears_that_its_rewind_was_refused_before_its_row_is_deleted() -> None:
    scene = Scene()
    facts = {"asker": ["p", "e0", 4, 1]}
    scene.moves.discard(
        instance_row(status=RuntimeStatus.COMPLETED),
        [inbox_row(1, kind=InboxKind.REWIND, facts=facts), inbox_row(2, facts=facts)],
    )
    assert [(each.instance, each.kind) for each in scene.replies] == [("p", EventKind.CHILD_FAILED)]
    assert scene.log == ["put", "turns", "discard"]


# -- reopened --------------------------------------------------------------------------------------


def test_only_what_failed_is_reopened_and_all_its_messages_wake_it() -> None:
    scene = Scene()
    assert scene.moves.reopen(snapshot(status=RuntimeStatus.FAILED), "fixed")
    commit = scene.commit
    assert scene.event == Event(EventKind.EXECUTION_REWOUND, NOW, facts={"reason": "fixed"})
    assert (commit.status, commit.own_inbox) == (RuntimeStatus.RUNNING, [])
    assert commit.statuses == (RuntimeStatus.FAILED,)
    assert commit.reopens and commit.wakes_all
