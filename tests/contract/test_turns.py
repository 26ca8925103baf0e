"""A turn's commit: it compares before it writes, and is applied whole or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from celery_durable.core.history import EventKind, load_events
from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.records import ActivityAttemptId, ReplayPosition
from celery_durable.engine.writes import ChildInstance, NewInbox, TurnCommit
from celery_durable.store import Store
from celery_durable.store.values import facts_of, text_of

from .builders import (
    MOVING,
    SECOND,
    TABLES,
    activity,
    at_once,
    begin,
    begin_join,
    commit,
    event,
    everything,
    kinds,
    new_instance,
    next_turn,
    note,
    record,
    rows,
    succeeded,
)

TAKES_BOTH_WAYS = True

# -- starting --------------------------------------------------------------------------------------


def test_an_id_starts_once(store: Store) -> None:
    first = new_instance("i", input='["first"]')
    assert store.starts.insert(first)
    before = everything(store)

    assert not store.starts.insert(new_instance("i", input='["second"]'))

    assert everything(store) == before
    assert store.turns.load("i", None).instance.execution == first.execution


def test_starting_again_with_the_same_execution_is_recognised_as_ours(store: Store) -> None:
    new = new_instance()
    assert store.starts.insert(new)
    assert store.starts.insert(new)
    assert kinds(store) == ["ExecutionStarted"]


def test_of_many_simultaneous_starts_of_one_id_one_is_first(store: Store) -> None:
    contenders = [new_instance("i") for _ in range(8)]
    won = at_once([lambda new=new: store.starts.insert(new) for new in contenders])
    assert won.count(True) == 1
    assert store.turns.load("i", None).instance.execution == contenders[won.index(True)].execution
    assert kinds(store) == ["ExecutionStarted"]


def test_a_delayed_start_is_not_visible_before_its_time(store: Store) -> None:
    store.starts.insert(new_instance(start_at=store.now() + 3600 * SECOND))
    assert store.turns.load("i", None).inbox == []
    assert kinds(store) == ["ExecutionStarted"]


def test_a_start_takes_part_in_a_transaction_of_another(store: Store) -> None:
    class Stop(Exception):
        pass

    def insert_and_fail(cursor: object) -> None:
        assert store.starts.insert_within(cursor, new_instance())
        raise Stop

    with pytest.raises(Stop):
        store.database.transact(insert_and_fail)
    assert store.turns.load("i", None) is None


# -- looking ---------------------------------------------------------------------------------------


def test_there_is_nothing_to_see_of_an_unknown_instance(store: Store) -> None:
    assert store.turns.load("unknown", None) is None


def test_a_look_gives_only_the_history_that_is_not_known(store: Store) -> None:
    execution = begin(store)
    commit(store)
    commit(store)
    assert len(store.turns.load("i", None).history) == 3
    assert len(store.turns.load("i", ReplayPosition(execution, 2)).history) == 1
    assert store.turns.load("i", ReplayPosition(execution, 3)).history == []
    assert len(store.turns.load("i", ReplayPosition("of another life", 2)).history) == 3


def test_an_inbox_is_read_in_the_order_in_which_things_became_visible(store: Store) -> None:
    begin(store)
    now = store.now()
    store.inbox.put([event(name="late", visible_at=now - 1 * SECOND)])
    store.inbox.put([event(name="early", visible_at=now - 3 * SECOND)])
    store.inbox.put([event(name="middle", visible_at=now - 2 * SECOND)])
    store.inbox.put([event(name="future", visible_at=now + 60 * SECOND)])
    assert [row.name for row in store.turns.load("i", None).inbox] == ["early", "middle", "late"]


def test_an_activity_of_another_life_of_its_instance_is_not_wanted(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    ticket = ActivityAttemptId(execution, 1, 1)
    assert store.attempts.begin(ticket, None).instance.id == "i"
    assert store.attempts.find_instance_of(ticket) == "i"
    for other in (
        ticket._replace(execution="x"),
        ticket._replace(command=2),
        ticket._replace(attempt=2),
    ):
        assert store.attempts.begin(other, None) is None
        assert store.attempts.find_instance_of(other) is None


# -- comparing -------------------------------------------------------------------------------------


def full_commit(store: Store) -> object:
    """Return a commit that would touch every table."""
    execution = store.turns.load("i", None).instance.execution
    return next_turn(
        store,
        activities=[activity(7), activity(8, join_command=7)],
        canceled_commands=[1],
        canceled_dedups=["e"],
        own_inbox=[event(dedup="own")],
        other_inboxes=[event("other")],
        children=[
            ChildInstance(
                **_fields(new_instance("child", parent_id="i", parent_execution=execution))
            )
        ],
        join_changes={2: 1},
        output="1",
        custom_status="2",
        reason="3",
        status=RuntimeStatus.COMPLETED,
    )


def _fields(new: object) -> dict[str, object]:
    return {name: getattr(new, name) for name in type(new).__dataclass_fields__}


@pytest.fixture
def started(store: Store) -> Store:
    begin(store, activities=[activity(1), activity(2)])
    begin(store, "other")
    store.inbox.put([event(dedup="e")])
    return store


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param(lambda turn: replace(turn, sequence=turn.sequence - 1), id="an old sequence"),
        pytest.param(
            lambda turn: replace(turn, sequence=turn.sequence + 1), id="a sequence to come"
        ),
        pytest.param(lambda turn: replace(turn, execution="another"), id="another execution"),
        pytest.param(
            lambda turn: replace(turn, statuses=(RuntimeStatus.SUSPENDED,)), id="another status"
        ),
        pytest.param(
            lambda turn: replace(turn, requires_empty_inbox=True), id="an inbox that is not empty"
        ),
        pytest.param(lambda turn: replace(turn, instance_id="unknown"), id="an unknown instance"),
        pytest.param(
            lambda turn: replace(turn, outcome=ActivityAttemptId(turn.execution, 99, 1)),
            id="an outcome that nobody waits for",
        ),
    ],
)
def test_a_commit_that_compares_with_something_else_changes_nothing(
    started: Store, difference: object
) -> None:
    turn = difference(full_commit(started))
    before = everything(started)
    assert started.turns.commit(turn) is None
    assert everything(started) == before


def test_a_commit_after_anothers_changes_nothing(started: Store) -> None:
    mine, theirs = full_commit(started), next_turn(started)
    assert started.turns.commit(theirs) is not None
    before = everything(started)
    assert started.turns.commit(mine) is None
    assert everything(started) == before


def test_a_turn_does_not_wait_for_an_instance_that_another_is_committing(started: Store) -> None:
    if started.database.family == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    turn = full_commit(started)
    before = everything(started)

    def hold(cursor: object) -> None:
        cursor.execute("SELECT id FROM durable_instances WHERE id = 'i' FOR UPDATE")
        cursor.fetchall()
        assert started.turns.commit(turn) is None

    started.database.transact(hold)
    assert everything(started) == before
    assert started.turns.commit(turn) is not None


def test_a_commit_that_fails_half_way_leaves_nothing(started: Store) -> None:
    turn = full_commit(started)
    turn.other_inboxes.append(event("other", dedup="z", facts={"cannot": object()}))
    before = everything(started)
    with pytest.raises(TypeError):
        started.turns.commit(turn)
    assert everything(started) == before


def test_of_two_commits_from_the_same_look_one_takes_place(store: Store) -> None:
    begin(store)
    for round_ in range(10):
        turns = [
            next_turn(store, own_inbox=[event(dedup=f"{round_}:{number}")]) for number in range(4)
        ]
        done = at_once([lambda turn=turn: store.turns.commit(turn) for turn in turns])
        assert sum(result is not None for result in done) == 1
    assert [row["sequence"] for row in rows(store, "history")] == list(range(1, 12))


# -- writing ---------------------------------------------------------------------------------------


def test_a_commit_writes_what_it_says(started: Store) -> None:
    assert started.turns.commit(full_commit(started)) is not None
    record = started.reads.fetch("i")
    assert (record.status, record.output, record.custom_status, record.reason) == (
        RuntimeStatus.COMPLETED,
        "1",
        "2",
        "3",
    )
    assert record.sequence == 2
    assert record.completed_at is not None
    assert {(row["command"], row["join_command"]) for row in rows(started, "outbox")} == {
        (2, 1),
        (7, None),
        (8, 7),
    }
    assert [row["dedup"] for row in rows(started, "inbox") if row["instance"] == "i"] == ["own"]
    assert kinds(started, "other") == ["EventRaised"]
    assert kinds(started, "child") == ["ExecutionStarted"]
    assert [load_events(text)[0].kind for text in started.reads.events("i")] == [
        EventKind.EXECUTION_RESUMED
    ] * 2


def test_what_a_commit_does_not_mention_stays(store: Store) -> None:
    begin(store, custom_status="1", output="2")
    commit(store, status=None)
    record = store.reads.fetch("i")
    assert (record.custom_status, record.output, record.status) == ("1", "2", RuntimeStatus.RUNNING)


def test_a_turn_deletes_only_what_it_took(store: Store) -> None:
    begin(store)
    store.inbox.put([event(name="seen")])
    turn = next_turn(store)
    store.inbox.put([event(name="came later")])
    assert store.turns.commit(turn) is not None
    assert [row.name for row in store.turns.load("i", None).inbox] == ["came later"]


def test_the_same_message_is_in_an_inbox_once(store: Store) -> None:
    begin(store)
    assert store.inbox.put([event(dedup="a"), event(dedup="b")]) == 2
    assert store.inbox.put([event(dedup="a"), event(dedup="c")]) == 1
    commit(store, own_inbox=[event(dedup="c"), event(dedup="d"), event(dedup="d")])
    assert len(kinds(store)) == 2


def test_an_outcome_and_its_turn_are_one_commit(store: Store) -> None:
    execution = begin(store, activities=[activity(1)])
    ticket = ActivityAttemptId(execution, 1, 1)
    assert (
        store.turns.commit(next_turn(store, outcome=ticket, requires_empty_inbox=True)) is not None
    )
    assert rows(store, "outbox") == []
    assert record(store, succeeded(execution)) is None
    assert store.turns.commit(next_turn(store, outcome=ticket, requires_empty_inbox=True)) is None


def test_a_timer_that_is_not_due_does_not_make_an_inbox_full(store: Store) -> None:
    begin(store)
    now = store.now()
    commit(
        store, own_inbox=[NewInbox("i", EventKind.TIMER_FIRED, "t", visible_at=now + 60 * SECOND)]
    )
    assert not store.turns.has_untaken("i")
    commit(store, requires_empty_inbox=True)


@pytest.mark.parametrize("count", range(3))
@pytest.mark.parametrize("way", ["by a message", "with an outcome", "with the start"])
def test_a_turn_that_sets_a_timer_puts_it_whatever_else_it_commits(
    store: Store, way: str, count: int
) -> None:
    due = store.now() + 60 * SECOND
    timer = NewInbox(
        "i",
        EventKind.TIMER_FIRED,
        "t",
        execution="x",
        command=3,
        attempt=4,
        name="né",
        payload='"\U0001f600"',
        facts={"id": "e\u0000'"},
        visible_at=due,
        check_after=-5,
    )
    activities = [activity(10 + number) for number in range(count)]
    given = {"own_inbox": [timer], "activities": activities, "status": RuntimeStatus.RUNNING}
    if way == "with the start":
        new = new_instance()
        first = TurnCommit("i", new.execution, 0, MOVING, events="[]", **given)
        assert store.starts.insert_with_turn(new, first)
    elif way == "by a message":
        begin(store)
        store.inbox.put([event(dedup="t")])  # it is taken before the other of its key is put
        taken = [row.id for row in store.turns.load("i", None).inbox]
        commit(store, taken=taken, **given)
    else:
        ticket = ActivityAttemptId(begin(store, activities=[activity(1)]), 1, 1)
        commit(store, outcome=ticket, requires_empty_inbox=True, **given)
    (row,) = rows(store, "inbox")
    assert (text_of(row.pop("payload")), facts_of(row.pop("facts"))) == (timer.payload, timer.facts)
    del row["id"]
    assert row == {
        "instance": "i",
        "dedup": "t",
        "kind": "TimerFired",
        "execution": "x",
        "command": 3,
        "attempt": 4,
        "name": "né",
        "visible_at": due,
        "wake_at": due,
        "check_at": due - 5,
        "sends": 0,
    }
    assert sorted(row["command"] for row in rows(store, "outbox")) == [10, 11][:count]


def test_a_timer_that_is_there_is_put_once(store: Store) -> None:
    begin(store)
    soon = store.now() + 60 * SECOND
    for ahead in (0, 1):
        commit(store, own_inbox=[event(dedup="t", visible_at=soon + ahead)])
    assert [row["visible_at"] for row in rows(store, "inbox")] == [soon]


def test_a_turn_that_comes_too_late_sets_no_timer(store: Store) -> None:
    begin(store)
    late = next_turn(store, own_inbox=[event(visible_at=store.now() + 60 * SECOND)])
    commit(store)
    assert store.turns.commit(late) is None
    assert rows(store, "inbox") == []


def test_a_join_that_waits_does_not_count_as_untaken(store: Store) -> None:
    begin_join(store, 2)
    assert kinds(store) == ["Join"]
    assert not store.turns.has_untaken("i")
    store.inbox.put([event()])
    assert store.turns.has_untaken("i")


def test_a_message_goes_to_instances_that_can_take_it_only(store: Store) -> None:
    for id_, status in (
        ("moving", None),
        ("stopped", RuntimeStatus.SUSPENDED),
        ("over", RuntimeStatus.COMPLETED),
    ):
        begin(store, id_, status=status)
    begin(store, "sender")
    targets = ["moving", "stopped", "over", "unknown"]
    commit(store, "sender", other_inboxes=[event(id_) for id_ in targets])
    assert [len(kinds(store, id_)) for id_ in targets] == [1, 1, 0, 0]
    assert store.inbox.put([event(id_) for id_ in targets]) == 2


def test_a_message_keeps_its_facts_and_payload(store: Store) -> None:
    begin(store)
    facts = {"id": "e\u0000\U0001f600'\"\\", "n": 1}
    store.inbox.put(
        [event(name="né\n'\"%", payload='"\\u0000 \U0001f600"', facts=facts, command=3, attempt=4)]
    )
    (row,) = store.turns.load("i", None).inbox
    assert (row.name, row.payload, row.facts) == ("né\n'\"%", '"\\u0000 \U0001f600"', facts)
    assert (row.command, row.attempt, row.kind) == (3, 4, "EventRaised")


# -- children --------------------------------------------------------------------------------------


def child(id_: str, execution: str, command: int, **values: object) -> ChildInstance:
    refusal = NewInbox(
        "i",
        EventKind.CHILD_FAILED,
        f"child:{execution}:{command}:1",
        execution=execution,
        command=command,
    )
    return ChildInstance(
        **_fields(
            new_instance(id_, parent_id="i", parent_execution=execution, parent_command=command)
        ),
        refusal=refusal,
    )


def test_a_refused_child_is_told_to_its_parent_and_the_others_start(store: Store) -> None:
    execution = begin(store)
    begin(store, "b")
    before = store.reads.fetch("b")
    committed = commit(
        store, children=[child(id_, execution, number) for number, id_ in enumerate("cba", 1)]
    )
    assert [started.id for started in committed.started_children] == ["a", "c"]
    assert store.reads.fetch("b") == before
    assert [
        (row["kind"], row["command"]) for row in rows(store, "inbox") if row["instance"] == "i"
    ] == [("ChildFailed", 2)]
    assert sorted(store.reads.open_children("i")) == ["a", "c"]


def test_parents_that_name_the_same_children_in_opposite_order_do_not_block_each_other(
    store: Store,
) -> None:
    ids = [f"child-{number:02}" for number in range(20)]
    executions = {parent: begin(store, parent) for parent in ("p", "q")}

    def start(parent: str, names: list[str]) -> list[str]:
        children = [
            ChildInstance(
                **_fields(new_instance(name, parent_id=parent, parent_execution=executions[parent]))
            )
            for name in names
        ]
        return [child.id for child in commit(store, parent, children=children).started_children]

    first, second = at_once([lambda: start("p", ids), lambda: start("q", ids[::-1])])
    assert sorted(first + second) == ids


def test_children_that_are_over_are_not_open(store: Store) -> None:
    execution = begin(store)
    commit(store, children=[child("a", execution, 1), child("b", execution, 2)])
    commit(store, "a", status=RuntimeStatus.FAILED)
    assert store.reads.open_children("i") == ["b"]


# -- a fresh execution, and the end ----------------------------------------------------------------


def test_continuing_as_new_keeps_events_and_drops_what_the_old_execution_waited_for(
    store: Store,
) -> None:
    old = begin(store, activities=[activity(1), activity(2)])
    now = store.now()
    own = {"execution": old}
    record(store, succeeded(old, 1))
    turn = next_turn(
        store,
        events=note(),
        clears=True,
        next_execution="new",
        next_input='"again"',
        taken=[],
        own_inbox=[
            NewInbox("i", EventKind.EXECUTION_STARTED, "start:new", execution="new", check_after=0),
            event(dedup="kept:1", name="first", visible_at=now - 2),
            event(dedup="kept:2", name="second", visible_at=now - 1),
        ],
    )
    store.inbox.put([event(name="meanwhile"), NewInbox("i", EventKind.TIMER_FIRED, "timer", **own)])

    assert store.turns.commit(turn) is not None

    snapshot = store.turns.load("i", None)
    assert (snapshot.instance.execution, snapshot.instance.sequence, snapshot.instance.input) == (
        "new",
        0,
        '"again"',
    )
    assert snapshot.history == []
    assert [row.name for row in snapshot.inbox if row.kind == "EventRaised"] == [
        "first",
        "second",
        "meanwhile",
    ]
    assert {row.kind for row in snapshot.inbox} == {"EventRaised", "ExecutionStarted"}
    assert rows(store, "outbox") == []
    assert record(store, succeeded(old, 2)) is None
    assert store.turns.commit(replace(turn, clears=False)) is None


def test_an_end_that_clears_leaves_nothing_but_the_last_message_to_celery(store: Store) -> None:
    execution = begin(store, activities=[activity(1)])
    store.inbox.put([event(), event(visible_at=store.now() + 60 * SECOND)])
    commit(
        store,
        status=RuntimeStatus.COMPLETED,
        clears=True,
        taken=[],
        activities=[activity(0, 0, kind="finish", name="orchestrator", message="")],
    )
    assert kinds(store) == []
    assert [row["kind"] for row in rows(store, "outbox")] == ["finish"]
    assert not store.reads.is_finished_for_celery(execution)
    assert not store.recovery.drop_finish("another", execution)
    assert store.recovery.drop_finish("i", execution)
    assert store.reads.is_finished_for_celery(execution)


def test_a_finished_instance_takes_no_turns(store: Store) -> None:
    begin(store, status=RuntimeStatus.COMPLETED)
    assert store.turns.commit(next_turn(store, statuses=(*MOVING, RuntimeStatus.SUSPENDED))) is None


def test_only_a_life_that_is_over_has_its_messages_discarded(store: Store) -> None:
    execution = begin(store)
    store.inbox.put([event(name=name) for name in "abc"])
    named = {row.name: row.id for row in store.turns.load("i", None).inbox}
    store.turns.discard("i", execution, list(named.values()))
    assert len(kinds(store)) == 3

    commit(store, status=RuntimeStatus.COMPLETED, taken=[])
    store.turns.discard("i", "another life", list(named.values()))
    assert len(kinds(store)) == 3
    store.turns.discard("i", execution, [])
    store.turns.discard("i", execution, [named["a"], named["c"]])
    assert [row.name for row in store.turns.load("i", None).inbox] == ["b"]


# -- purging and replacing -------------------------------------------------------------------------


def test_only_a_finished_instance_of_this_very_execution_is_purged(store: Store) -> None:
    execution = begin(store, activities=[activity(1)])
    store.inbox.put([event()])
    before = everything(store)
    closed: list[object] = []
    sa.event.listen(store.database.engine, "invalidate", lambda *seen: closed.append(seen))
    sa.event.listen(store.database.engine, "close", lambda *seen: closed.append(seen))
    assert not store.cleanup.purge("i", execution)
    # its connection is not closed: behind a pooler the lock would outlive that for a moment
    assert not closed
    commit(store, status=RuntimeStatus.COMPLETED, taken=[])
    assert not store.cleanup.purge("i", "another")
    assert {name: len(found) for name, found in everything(store).items()} == {
        **{name: len(found) for name, found in before.items()},
        "history": 2,
    }

    assert store.cleanup.purge("i", execution)

    assert everything(store) == {name: [] for name in before}
    assert record(store, succeeded(execution)) is None
    assert not store.cleanup.purge("i", execution)


@pytest.mark.parametrize("count", [1, 2, 11, 120])
def test_the_last_messages_of_many_are_deleted_together(store: Store, count: int) -> None:
    ends = []
    for number in range(count + 1):
        id_ = f"i{number}"
        execution = begin(store, id_)
        commit(store, id_, activities=[activity(0, 0, kind="finish"), activity(1)])
        ends.append((id_, execution if number != count else "another"))
    store.recovery.drop_finishes(ends)
    left = [row for row in rows(store, "outbox") if row["kind"] == "finish"]
    assert [row["instance"] for row in left] == [f"i{count}"]
    assert len(rows(store, "outbox")) == count + 2
    assert store.recovery.drop_finish(f"i{count}", left[0]["execution"])


def test_purging_while_outcomes_come_in_leaves_nothing_behind(store: Store) -> None:
    for round_ in range(5):
        execution = begin(store, "i", [activity(number) for number in range(1, 5)])
        commit(store, status=RuntimeStatus.FAILED)
        outcomes = [succeeded(execution, number) for number in range(1, 5)]
        done = at_once(
            [
                lambda: store.cleanup.purge("i", execution),
                *[lambda o=outcome: record(store, o) for outcome in outcomes],
            ]
        )
        assert done[0] is True, round_
        assert rows(store, "outbox") == []
        late = {row["dedup"] for row in rows(store, "inbox")}
        assert late <= {f"outcome:{execution}:{number}:1" for number in range(1, 5)}
        with store.database.engine.begin() as connection:
            connection.execute(sa.delete(TABLES["inbox"]))


def test_replacing_ends_the_old_life_and_asks_its_children_to_end(store: Store) -> None:
    old = begin(store, activities=[activity(1)])
    commit(store, children=[child("c", old, 2), child("d", old, 3)], own_inbox=[event()])
    new = new_instance("i", name="another", input='"new"')

    assert [message.instance for message in store.starts.replace(new) or ()] == ["c", "d"]

    snapshot = store.turns.load("i", None)
    assert (snapshot.instance.execution, snapshot.instance.name, snapshot.instance.sequence) == (
        new.execution,
        "another",
        0,
    )
    assert snapshot.instance.status is RuntimeStatus.PENDING
    assert snapshot.history == []
    assert kinds(store, "i") == ["ExecutionStarted"]
    assert [kinds(store, id_)[-1] for id_ in "cd"] == ["TerminateRequested"] * 2
    assert record(store, succeeded(old)) is None
    assert store.cleanup.purge("i", old) is False


def test_a_message_for_one_execution_reaches_no_other(store: Store) -> None:
    execution = begin(store)
    message = event(dedup="event:1")
    assert not store.inbox.put_into(message, "another")
    assert not store.inbox.put_into(event("unknown"), execution)
    assert kinds(store) == []
    assert [store.inbox.put_into(message, execution) for _ in range(2)] == [True, True]
    assert kinds(store) == ["EventRaised"]
    commit(store, status=RuntimeStatus.FAILED, clears=True)
    assert not store.inbox.put_into(event(), execution)
    assert kinds(store) == []


def test_a_message_for_one_execution_does_not_cross_with_its_replacement(store: Store) -> None:
    execution = begin(store)
    for round_ in range(20):
        new = new_instance()
        message, old = event(), execution
        was_replaced, _ = at_once(
            [lambda new=new: store.starts.replace(new), lambda: store.inbox.put_into(message, old)]
        )
        if was_replaced is not None:
            assert kinds(store) == ["ExecutionStarted"], round_
            execution = new.execution


def test_nothing_replaces_an_unknown_instance(store: Store) -> None:
    assert store.starts.replace(new_instance("unknown")) is None
    assert store.reads.fetch("unknown") is None
