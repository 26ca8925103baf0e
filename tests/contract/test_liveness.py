"""Who runs what: claims, heartbeats of workers and activities, time limits, and what recovery is
shown.
"""

from __future__ import annotations

from typing import Any

from celery_durable.engine.due import Lost
from celery_durable.engine.inbox_recovery import back_off
from celery_durable.engine.records import ActivityAttemptId
from celery_durable.store import Store
from tests.conftest import wait_until

from .builders import (
    SECOND,
    activity,
    at_once,
    begin,
    begin_join,
    commit,
    event,
    hold,
    new_instance,
    record,
    rows,
    succeeded,
    take,
)

LEASE = 60 * SECOND


def ticket_of(execution: str, command: int = 1) -> ActivityAttemptId:
    return ActivityAttemptId(execution, command, 1)


def outbox_row(store: Store, command: int = 1) -> dict[str, Any]:
    (row,) = (row for row in rows(store, "outbox") if row["command"] == command)
    return row


def past(store: Store, moment: int) -> None:
    """Wait until the store's clock is beyond a moment."""
    wait_until(lambda: store.now() > moment, 10)


# -- claims ----------------------------------------------------------------------------------------


def test_a_free_activity_is_claimed_by_the_first(store: Store) -> None:
    ticket = ticket_of(begin(store, activities=[activity()]))
    store.workers.heartbeat("a", "host")
    store.workers.heartbeat("b", "host")
    assert take(store, ticket, "a", LEASE)
    assert not take(store, ticket, "b", LEASE)
    assert outbox_row(store)["holder"] == "a"


def test_one_of_many_simultaneous_claims_succeeds(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 6)])
    for number in range(8):
        store.workers.heartbeat(f"w{number}", "host")
    for command in range(1, 6):
        ticket = ticket_of(execution, command)
        done = at_once([lambda t=ticket, n=n: take(store, t, f"w{n}", LEASE) for n in range(8)])
        assert done.count(True) == 1


def test_an_activity_of_a_worker_that_died_is_claimed(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    store.workers.heartbeat("silent", "host")
    assert take(store, ticket_of(execution, 1), "silent", LEASE)
    assert take(store, ticket_of(execution, 2), "forgotten", LEASE)
    store.workers.heartbeat("b", "host")
    past(store, store.now() + 1000)
    assert take(store, ticket_of(execution, 1), "b", 1)
    assert take(store, ticket_of(execution, 2), "b", LEASE)


def test_no_one_claims_what_is_done_or_unknown(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    record(store, succeeded(execution))
    assert not take(store, ticket_of(execution), "a", LEASE)
    assert not take(store, ticket_of("unknown"), "a", LEASE)


def test_a_worker_is_marked_as_holder_once(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    store.workers.heartbeat("a", "host")
    hold(store, "a", [ticket_of(execution, 2), ticket_of(execution, 1), ticket_of("unknown")])
    hold(store, "b", [ticket_of(execution, 1)])
    hold(store, "b", [])
    assert [row["holder"] for row in rows(store, "outbox")] == ["a", "a"]
    assert [row["check_at"] for row in rows(store, "outbox")] == [None, None]


def test_workers_mark_in_any_order_without_blocking_each_other(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 31)])
    tickets = [ticket_of(execution, number) for number in range(1, 31)]
    at_once([lambda: hold(store, "a", tickets), lambda: hold(store, "b", tickets[::-1])] * 3)
    assert {row["holder"] for row in rows(store, "outbox")} <= {"a", "b"}


# -- workers ---------------------------------------------------------------------------------------


def test_a_worker_that_beats_keeps_what_it_holds(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    store.workers.heartbeat("a", "host")
    hold(store, "a", [ticket_of(execution)])
    assert store.workers.free_abandoned(LEASE) == 0
    assert outbox_row(store)["holder"] == "a"


def test_what_a_silent_worker_holds_is_free_and_due(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2), activity(3)])
    store.workers.heartbeat("silent", "host")
    hold(store, "silent", [ticket_of(execution, 1), ticket_of(execution, 2)])
    store.workers.heartbeat("living", "host")
    past(store, rows(store, "workers")[-1]["last_seen"] + 1_000_000)
    store.workers.heartbeat("living", "host")
    hold(store, "living", [ticket_of(execution, 3)])

    assert store.workers.free_abandoned(900_000) == 2

    due = {activity.row.ticket.command: activity for activity in store.recovery.due_activities(10)}
    assert sorted(due) == [1, 2]
    assert [due[command].row.sends for command in (1, 2)] == [1, 1]
    assert outbox_row(store, 3)["holder"] == "living"
    assert [row["id"] for row in rows(store, "workers")] == ["living"]
    store.workers.heartbeat("living", "host")
    assert store.workers.free_abandoned(900_000) == 0


def test_what_a_forgotten_worker_holds_is_freed(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    store.workers.heartbeat("a", "host")
    hold(store, "a", [ticket_of(execution)])
    store.workers.unregister("a")
    assert store.workers.free_abandoned(LEASE) == 1
    assert outbox_row(store)["holder"] is None


def test_a_worker_that_was_taken_for_dead_registers_again(store: Store) -> None:
    store.workers.heartbeat("a", "host")
    (first,) = rows(store, "workers")
    store.workers.unregister("a")
    store.workers.heartbeat("a", "h" * 300)
    store.workers.heartbeat("a", "host")
    (again,) = rows(store, "workers")
    assert again["last_seen"] >= again["started_at"] > first["started_at"]


def test_simultaneous_sweeps_free_each_activity_once(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 21)])
    for number in range(1, 21):
        assert take(store, ticket_of(execution, number), f"gone{number % 4}", LEASE)
    assert sum(at_once([lambda: store.workers.free_abandoned(LEASE)] * 4)) == 20
    assert {row["sends"] for row in rows(store, "outbox")} == {1}


# -- what is due -----------------------------------------------------------------------------------


def test_nothing_is_due_in_an_empty_store(store: Store) -> None:
    assert store.recovery.read_backlog(LEASE)[:2] == (False, False)
    assert store.recovery.due_wakes(10) == []
    assert store.recovery.due_activities(10) == []


def test_activities_become_due_one_by_one_in_order(store: Store) -> None:
    execution = begin(
        store, activities=[activity(n, timeout=n * 1000) for n in (3, 1, 2)] + [activity(4)]
    )
    past(store, outbox_row(store, 3)["check_at"])
    assert store.recovery.read_backlog(LEASE)[:2] == (False, True)
    assert [due.row.ticket.command for due in store.recovery.due_activities(10)] == [1, 2, 3]
    assert [due.row.ticket.command for due in store.recovery.due_activities(2)] == [1, 2]
    first, *_ = store.recovery.due_activities(1)
    assert (first.row.ticket, first.row.instance, first.row.name) == (
        ticket_of(execution),
        "i",
        "task",
    )
    assert first.deadline_at == first.check_at <= first.now


def test_messages_become_due_in_order(store: Store) -> None:
    begin(store)
    for name, after in (
        ("late", -1 * SECOND),
        ("early", -3 * SECOND),
        ("never", None),
        ("to come", 60 * SECOND),
    ):
        store.inbox.put([event(name=name, dedup=name, check_after=after)])
    assert store.recovery.read_backlog(LEASE)[:2] == (True, False)
    first, second = store.recovery.due_wakes(10)
    assert first.check_at < second.check_at <= second.now
    assert (first.kind, first.instance, first.name, first.status) == (
        "EventRaised",
        "i",
        "orchestrator",
        "RUNNING",
    )
    assert [due.id for due in store.recovery.due_wakes(1)] == [first.id]


def test_a_message_whose_instance_is_gone_is_shown_without_a_name(store: Store) -> None:
    execution = begin(store)
    store.inbox.put([event(check_after=0)])
    (due,) = store.recovery.due_wakes(10)
    store.recovery.drop_wake(due)
    assert rows(store, "inbox") == []
    store.recovery.drop_wake(due)
    commit(store, own_inbox=[event("nobody", check_after=0)])
    (orphan,) = store.recovery.due_wakes(10)
    assert (orphan.name, orphan.status, execution) == (None, None, execution)


def test_only_the_first_sweeper_moves_a_message(store: Store) -> None:
    begin(store)
    store.inbox.put([event(check_after=0)])
    (due,) = store.recovery.due_wakes(10)
    assert (
        at_once([lambda: store.recovery.move_wake(due, 60 * SECOND, sends=1)] * 4).count(True) == 1
    )
    (row,) = rows(store, "inbox")
    assert (row["check_at"], row["sends"]) == (due.now + 60 * SECOND, 1)
    assert store.recovery.due_wakes(10) == []


def test_a_message_can_be_left_alone_for_ever(store: Store) -> None:
    begin(store)
    store.inbox.put([event(check_after=0)])
    (due,) = store.recovery.due_wakes(10)
    assert store.recovery.move_wake(due, None)
    assert rows(store, "inbox")[0]["check_at"] is None
    assert store.recovery.read_backlog(LEASE)[:2] == (False, False)


def test_only_the_first_sweeper_moves_an_activity(store: Store) -> None:
    begin(store, activities=[activity(is_sent=False)])
    (due,) = store.recovery.due_activities(10)
    assert due.sent_at is None
    moved = at_once(
        [lambda: store.recovery.move_activity(due, 60 * SECOND, sends=1, is_sent=True)] * 4
    )
    assert moved.count(True) == 1
    row = outbox_row(store)
    assert (row["check_at"], row["sends"], row["sent_at"]) == (due.now + 60 * SECOND, 1, due.now)


def test_of_sweepers_that_come_together_each_row_is_taken_by_one(store: Store) -> None:
    begin(store, activities=[activity(number, is_sent=number % 3 > 0) for number in range(1, 41)])
    store.inbox.put([event(dedup=f"e{number}", check_after=0) for number in range(40)])
    past(store, store.now() + SECOND // 1000)
    wakes = store.recovery.due_wakes(100)
    taken = at_once([lambda: store.recovery.resend_wakes(wakes, back_off)] * 4)
    assert sorted(wake.id for part in taken for wake in part) == [wake.id for wake in wakes]
    assert store.recovery.due_wakes(100) == []
    assert {row["sends"] for row in rows(store, "inbox")} == {1}

    past(store, max(row["check_at"] for row in rows(store, "outbox")))
    due = store.recovery.due_activities(100)
    assert len(due) == 40
    taken = at_once([lambda: store.recovery.resend_activities(due, back_off)] * 4)
    assert sorted(each.row.ticket.command for part in taken for each in part) == [*range(1, 41)]
    assert store.recovery.due_activities(100) == []
    moments = {each.now for each in due}
    for row in rows(store, "outbox"):
        assert row["sends"] == int(row["command"] % 3 > 0)
        assert row["sent_at"] in moments
        assert row["check_at"] == row["sent_at"] + back_off(0)


def test_what_changed_since_it_was_seen_is_not_sent_again(store: Store) -> None:
    execution = begin(store, activities=[activity(1, is_sent=False), activity(2, is_sent=False)])
    due = store.recovery.due_activities(10)
    assert store.recovery.move_activity(due[0], SECOND)
    taken = store.recovery.resend_activities(due, back_off)
    assert [each.row.ticket for each in taken] == [ticket_of(execution, 2)]
    assert store.recovery.resend_activities([], back_off) == []
    assert store.recovery.resend_wakes([], back_off) == []


def test_what_is_sent_again_is_looked_at_before_its_limit_passes(store: Store) -> None:
    begin(store, activities=[activity(is_sent=False, timeout=5 * SECOND, start_timeout=2 * SECOND)])
    due = store.recovery.due_activities(10)
    assert store.recovery.resend_activities(due, back_off) == due
    assert outbox_row(store)["check_at"] == due[0].start_by


def test_an_activity_is_looked_at_again_before_its_limit_passes(store: Store) -> None:
    begin(store, activities=[activity(is_sent=False, timeout=5 * SECOND, start_timeout=2 * SECOND)])
    (due,) = store.recovery.due_activities(10)
    assert store.recovery.move_activity(due, 60 * SECOND)
    assert outbox_row(store)["check_at"] == due.start_by < due.deadline_at


def test_a_message_that_could_not_be_sent_is_due_soon(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    hold(store, "a", [ticket_of(execution, 2)])
    store.attempts.unsend(
        [ticket_of(execution, 1), ticket_of(execution, 2), ticket_of("unknown")], delay=0
    )
    assert [due.row.ticket.command for due in store.recovery.due_activities(10)] == [1]
    assert store.recovery.due_activities(10)[0].sent_at is None
    assert outbox_row(store, 2)["sent_at"] is not None


# -- limits ----------------------------------------------------------------------------------------


def test_limits_count_from_the_commit(store: Store) -> None:
    before = store.now()
    begin(
        store,
        activities=[
            activity(timeout=7 * SECOND, start_timeout=5 * SECOND, heartbeat_timeout=3 * SECOND)
        ],
    )
    row = outbox_row(store)
    after = store.now()
    assert before + 7 * SECOND <= row["deadline_at"] <= after + 7 * SECOND
    assert row["start_by"] - row["deadline_at"] == -2 * SECOND
    assert row["beat_by"] is None
    assert row["beat_timeout"] == 3 * SECOND


def test_a_running_activity_is_looked_at_when_its_next_limit_passes(store: Store) -> None:
    execution = begin(
        store,
        activities=[
            activity(1, timeout=9 * SECOND, heartbeat_timeout=5 * SECOND, start_timeout=SECOND),
            activity(2, timeout=3 * SECOND, heartbeat_timeout=50 * SECOND, start_timeout=SECOND),
            activity(3, heartbeat_timeout=5 * SECOND),
            activity(4, start_timeout=SECOND),
        ],
    )
    hold(store, "a", [ticket_of(execution, command) for command in range(1, 5)])
    found = {row["command"]: row for row in rows(store, "outbox")}
    assert {row["start_by"] for row in found.values()} == {None}
    assert abs(found[1]["check_at"] - found[1]["beat_by"]) < 50_000
    assert found[2]["check_at"] == found[2]["deadline_at"]
    assert abs(found[3]["check_at"] - found[3]["beat_by"]) < 50_000
    assert found[4]["check_at"] is None


def test_a_heartbeat_moves_the_next_look_and_keeps_details(store: Store) -> None:
    execution = begin(store, activities=[activity(heartbeat_timeout=5 * SECOND)])
    ticket = ticket_of(execution)
    take(store, ticket, "a", LEASE)
    before = outbox_row(store)
    past(store, store.now() + 2000)
    assert store.attempts.heartbeat(ticket, '{"done": "\\u0000"}')
    after = outbox_row(store)
    assert after["beat_by"] > before["beat_by"]
    assert after["check_at"] > before["check_at"]
    assert store.attempts.begin(ticket, None).details == '{"done": "\\u0000"}'
    record(store, succeeded(execution))
    assert not store.attempts.heartbeat(ticket, None)


def test_another_worker_that_has_begun_the_retry_keeps_it(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    store.workers.heartbeat("b", "host")
    hold(store, "b", [ticket_of(execution)])
    assert not store.attempts.postpone(ticket_of(execution), SECOND, "a")
    assert outbox_row(store)["holder"] == "b"


def test_a_postponed_activity_is_left_to_celery_until_its_time(store: Store) -> None:
    execution = begin(store, activities=[activity(is_sent=False)])
    hold(store, "a", [ticket_of(execution)])
    assert store.attempts.postpone(ticket_of(execution), 3600 * SECOND, "a")
    row = outbox_row(store)
    assert row["holder"] is None
    assert row["check_at"] > store.now() + 3500 * SECOND
    assert store.recovery.due_activities(10) == []
    assert store.workers.free_abandoned(0) == 0
    assert not store.attempts.postpone(ticket_of("unknown"), 0)


def test_postponing_an_activity_does_not_postpone_its_time_limit(store: Store) -> None:
    execution = begin(store, activities=[activity(timeout=SECOND // 10)])
    hold(store, "a", [ticket_of(execution)])
    store.attempts.postpone(ticket_of(execution), 3600 * SECOND, "a")
    row = outbox_row(store)
    assert row["check_at"] <= row["deadline_at"]


def test_a_delegated_activity_is_judged_by_its_deadline_only(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2, timeout=3600 * SECOND)])
    for command in (1, 2):
        hold(store, "a", [ticket_of(execution, command)])
        assert store.attempts.delegate(ticket_of(execution, command))
    assert store.workers.free_abandoned(0) == 0
    first, second = (outbox_row(store, command) for command in (1, 2))
    assert (first["check_at"], first["holder"], bool(first["is_delegated"])) == (None, None, True)
    assert second["check_at"] == second["deadline_at"]
    assert not store.attempts.delegate(ticket_of("unknown"))
    assert record(store, succeeded(execution, 1)) is not None


# -- the rest --------------------------------------------------------------------------------------


def test_crashes_are_counted_until_a_turn_commits(store: Store) -> None:
    begin(store)
    assert [store.turns.count_crash("i") for _ in range(3)] == [1, 2, 3]
    assert store.turns.load("i", None).instance.crashes == 3
    commit(store)
    assert store.turns.load("i", None).instance.crashes == 0
    assert store.turns.count_crash("unknown") == 0


def test_simultaneous_crashes_all_count(store: Store) -> None:
    begin(store)
    at_once([lambda: store.turns.count_crash("i")] * 5)
    assert store.turns.load("i", None).instance.crashes == 5


def test_what_an_instance_waits_for_is_noted_and_goes_away_with_the_next_turn(store: Store) -> None:
    begin(store)
    store.turns.note_waiting("i", "waits for a worker")
    store.turns.note_waiting("i", "waits for a worker")
    store.turns.note_waiting("unknown", "nothing")
    assert store.reads.fetch("i").reason == "waits for a worker"
    commit(store)
    assert store.reads.fetch("i").reason is None


def test_a_join_is_looked_at_for_itself_not_for_its_members(store: Store) -> None:
    execution = begin_join(store, 5)
    for command in (1, 2, 3):
        record(store, succeeded(execution, command))
    looked_at = {row["kind"] for row in rows(store, "inbox") if row["check_at"] is not None}
    assert looked_at == {"Join"}


def test_the_store_answers_for_addresses_in_any_number(store: Store) -> None:
    begin(store)
    ids = ["i", *[f"unknown {number}" for number in range(70_000)]]
    assert [address.id for address in store.reads.turn_addresses(ids)] == ["i"]
    assert store.reads.turn_addresses([]) == []


# -- whose message is where ------------------------------------------------------------------------


def test_what_someone_has_is_looked_at_later(store: Store) -> None:
    commands = range(1, 14)
    execution = begin(store, activities=[activity(n) for n in commands])
    past(store, max(row["check_at"] for row in rows(store, "outbox")))
    kept = [ticket_of(execution, n) for n in commands if n != 7]
    store.workers.keep(kept, (), 60 * SECOND)
    assert [due.row.ticket.command for due in store.recovery.due_activities(20)] == [7]


def test_a_limit_that_comes_sooner_is_kept(store: Store) -> None:
    execution = begin(
        store, activities=[activity(1, timeout=2 * SECOND), activity(2, start_timeout=3 * SECOND)]
    )
    past(store, max(row["sent_at"] for row in rows(store, "outbox")) + store.timing.resend_after)
    store.workers.keep([ticket_of(execution, 1), ticket_of(execution, 2)], (), 60 * SECOND)
    found = {row["command"]: row for row in rows(store, "outbox")}
    assert found[1]["check_at"] == found[1]["deadline_at"]
    assert found[2]["check_at"] == found[2]["start_by"]


def test_only_what_is_lost_is_due(store: Store) -> None:
    begin(
        store,
        activities=[
            activity(1, queue="a"),
            activity(2, queue="b"),
            activity(3),
            activity(4, is_sent=False),
        ],
    )
    past(store, max(row["check_at"] for row in rows(store, "outbox")))
    now = store.now()

    def due(lost: Lost) -> list[int]:
        return sorted(each.row.ticket.command for each in store.recovery.due_activities(10, lost))

    assert due(Lost()) == [4], "it was never sent"
    assert due(Lost({"a": now})) == [1, 4]
    assert due(Lost({"a": 1, "b": now})) == [2, 4]
    assert due(Lost({"a": now, "b": now, "c": now}, now)) == [1, 2, 3, 4]


def test_all_living_workers_must_have_told(store: Store) -> None:
    assert store.workers.reported_since(LEASE) is None
    for worker in ("a", "b"):
        store.workers.heartbeat(worker, "host")
    started = {row["id"]: row["started_at"] for row in rows(store, "workers")}
    assert store.workers.reported_since(LEASE) == started["a"]
    store.workers.report("a", started["b"] + 5)
    assert store.workers.reported_since(LEASE) == started["b"]
    store.workers.report("b", started["b"] + 7)
    assert store.workers.reported_since(LEASE) == started["b"] + 5
    store.workers.report("a", store.now() + 3600 * SECOND)
    assert store.workers.reported_since(LEASE) == 0, "the clock has stepped back since"


def test_what_was_sent_lately_is_known_to_be_unproven(store: Store) -> None:
    assert not store.recovery.has_fresh_activities(0) and not store.recovery.has_fresh_wakes(0)
    assert store.starts.insert(new_instance("a", check_after=4 * SECOND))
    assert store.recovery.has_fresh_wakes(0)
    begin(store, "b", [activity()])
    now = store.now()
    assert store.recovery.has_fresh_activities(now)
    assert not store.recovery.has_fresh_activities(now + LEASE)
    assert not store.recovery.has_fresh_wakes(now + LEASE)
