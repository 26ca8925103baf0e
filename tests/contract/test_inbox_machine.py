"""The inbox and outbox of one instance against a model made of dicts, over any sequence of
steps.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celery_durable.engine.writes import TurnCommit
from celery_durable.store import Store
from celery_durable.store.database import Database

from .builders import MOVING, activity, begin, event, failed, note, record, rows, succeeded

COMMANDS = st.integers(1, 6)
EVENTS = st.sampled_from(["a", "b", "c"])


class InboxMachine(RuleBasedStateMachine):
    """Steps that workers and clients can take, in any order."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        shutil.copy(self.template, f"{self.folder}/store.db")
        self.store = Store(Database(f"sqlite:///{self.folder}/store.db"))
        self.execution = begin(self.store)
        self.sequence = 1
        self.inbox: dict[str, bool] = {}  # key -> whether it wants a turn
        self.outbox: dict[int, int | None] = {}  # command -> the join that it feeds
        self.looks: list[tuple[int, list[int], list[str]]] = []

    def teardown(self) -> None:
        self.store.database.dispose()
        shutil.rmtree(self.folder)

    @rule(dedup=EVENTS)
    def send(self, dedup: str) -> None:
        assert self.store.inbox.put([event(dedup=dedup)]) == (dedup not in self.inbox)
        self.inbox.setdefault(dedup, True)

    @rule()
    def look(self) -> None:
        snapshot = self.store.turns.load("i", None)
        keys = {row["id"]: row["dedup"] for row in rows(self.store, "inbox")}
        ids = [row.id for row in snapshot.inbox]
        self.looks.append((snapshot.instance.sequence, ids, [keys[id_] for id_ in ids]))

    @precondition(lambda self: self.looks)
    @rule(
        commands=st.sets(COMMANDS),
        join=st.none() | COMMANDS,
        canceled=st.sets(COMMANDS),
        data=st.data(),
    )
    def commit(
        self, commands: set[int], join: int | None, canceled: set[int], data: st.DataObject
    ) -> None:
        sequence, ids, keys = data.draw(st.sampled_from(self.looks))
        fresh = sorted(commands - set(self.outbox))
        turn = TurnCommit(
            "i",
            self.execution,
            sequence,
            MOVING,
            events=note(),
            taken=ids,
            canceled_commands=sorted(canceled),
            activities=[activity(n, join_command=join) for n in fresh if n not in canceled],
        )
        committed = self.store.turns.commit(turn)
        assert (committed is not None) == (sequence == self.sequence)
        if committed is not None:
            self.sequence += 1
            self.inbox = {key: wakes for key, wakes in self.inbox.items() if key not in keys}
            self.outbox = {n: j for n, j in self.outbox.items() if n not in canceled}
            self.outbox.update({new.command: join for new in turn.activities})

    @rule(command=COMMANDS, has_failed=st.booleans())
    def finish(self, command: int, has_failed: bool) -> None:
        outcome = (failed if has_failed else succeeded)(self.execution, command)
        key = f"outcome:{self.execution}:{command}:1"
        is_there = key in self.inbox
        recorded = record(self.store, outcome)
        assert (recorded is not None) == (command in self.outbox)
        if recorded is not None:
            join = self.outbox.pop(command)
            wakes = join is None or has_failed
            assert (recorded.join_command, recorded.wakes) == (join, wakes)
            if not is_there:
                self.inbox[key] = wakes

    @rule(join=COMMANDS)
    def ask_join(self, join: int) -> None:
        assert not self.store.outcomes.finish_join(self.execution, "i", join)

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        assert {
            row["dedup"]: row["wake_at"] is not None for row in rows(self.store, "inbox")
        } == self.inbox
        assert {
            row["command"]: row["join_command"] for row in rows(self.store, "outbox")
        } == self.outbox
        assert (
            self.store.turns.load("i", None).instance.sequence
            == self.sequence
            == len(self.store.reads.events("i"))
        )
        assert self.store.turns.has_untaken("i") == bool(self.inbox)


def test_any_sequence_of_steps_agrees_with_the_model(
    sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InboxMachine, "template", sqlite_template, raising=False)
    run_state_machine_as_test(
        InboxMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
