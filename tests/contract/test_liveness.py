"""Who runs what: claims, heartbeats of workers and activities, time limits, and what recovery is shown."""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.engine.records import ActivityTicket
from celery_durable.store import Store
from tests.conftest import wait_until

from .builders import SECOND, activity, at_once, begin, begin_join, commit, event, record, rows, succeeded
from .world import World, sig

LEASE = 60 * SECOND


def ticket_of(execution: str, command: int = 1) -> ActivityTicket:
    return ActivityTicket(execution, command, 1)


def outbox_row(store: Store, command: int = 1) -> dict[str, Any]:
    (row,) = (row for row in rows(store, "outbox") if row["command"] == command)
    return row


def past(store: Store, moment: int) -> None:
    """Wait until the store's clock is beyond a moment."""
    wait_until(lambda: store.now() > moment, 10)


# -- claims -------------------------------------------------------------------------------------------------


def test_a_free_activity_is_claimed_by_the_first(store: Store) -> None:
    ticket = ticket_of(begin(store, activities=[activity()]))
    store.beat("a", "host")
    store.beat("b", "host")
    assert store.claim(ticket, "a", LEASE)
    assert not store.claim(ticket, "b", LEASE)
    assert outbox_row(store)["holder"] == "a"


def test_one_of_many_simultaneous_claims_succeeds(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 6)])
    for number in range(8):
        store.beat(f"w{number}", "host")
    for command in range(1, 6):
        ticket = ticket_of(execution, command)
        done = at_once([lambda t=ticket, n=n: store.claim(t, f"w{n}", LEASE) for n in range(8)])
        assert done.count(True) == 1


def test_an_activity_of_a_worker_that_died_is_claimed(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    store.beat("silent", "host")
    assert store.claim(ticket_of(execution, 1), "silent", LEASE)
    assert store.claim(ticket_of(execution, 2), "forgotten", LEASE)
    store.beat("b", "host")
    past(store, store.now() + 1000)
    assert store.claim(ticket_of(execution, 1), "b", 1)
    assert store.claim(ticket_of(execution, 2), "b", LEASE)


def test_nobody_claims_what_is_done_or_unknown(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    record(store, succeeded(execution))
    assert not store.claim(ticket_of(execution), "a", LEASE)
    assert not store.claim(ticket_of("unknown"), "a", LEASE)


def test_a_worker_is_marked_as_holder_once(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    store.beat("a", "host")
    store.mark_held("a", [ticket_of(execution, 2), ticket_of(execution, 1), ticket_of("unknown")])
    store.mark_held("b", [ticket_of(execution, 1)])
    store.mark_held("b", [])
    assert [row["holder"] for row in rows(store, "outbox")] == ["a", "a"]
    assert [row["check_at"] for row in rows(store, "outbox")] == [None, None]


def test_workers_mark_in_any_order_without_blocking_each_other(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 31)])
    tickets = [ticket_of(execution, number) for number in range(1, 31)]
    at_once([lambda: store.mark_held("a", tickets), lambda: store.mark_held("b", tickets[::-1])] * 3)
    assert {row["holder"] for row in rows(store, "outbox")} <= {"a", "b"}


# -- workers --------------------------------------------------------------------------------------------------


def test_a_worker_that_beats_keeps_what_it_holds(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    store.beat("a", "host")
    store.mark_held("a", [ticket_of(execution)])
    assert store.free_abandoned(LEASE) == 0
    assert outbox_row(store)["holder"] == "a"


def test_what_a_silent_worker_holds_is_free_and_due(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2), activity(3)])
    store.beat("silent", "host")
    store.mark_held("silent", [ticket_of(execution, 1), ticket_of(execution, 2)])
    store.beat("living", "host")
    past(store, rows(store, "workers")[-1]["last_seen"] + 1_000_000)
    store.beat("living", "host")
    store.mark_held("living", [ticket_of(execution, 3)])

    assert store.free_abandoned(900_000) == 2

    due = {activity.row.ticket.command: activity for activity in store.due_activities(10)}
    assert sorted(due) == [1, 2]
    assert [due[command].row.sends for command in (1, 2)] == [1, 1]
    assert outbox_row(store, 3)["holder"] == "living"
    assert [row["id"] for row in rows(store, "workers")] == ["living"]
    store.beat("living", "host")
    assert store.free_abandoned(900_000) == 0


def test_what_a_forgotten_worker_holds_is_freed(store: Store) -> None:
    execution = begin(store, activities=[activity()])
    store.beat("a", "host")
    store.mark_held("a", [ticket_of(execution)])
    store.unregister("a")
    assert store.free_abandoned(LEASE) == 1
    assert outbox_row(store)["holder"] is None


def test_a_worker_that_was_taken_for_dead_registers_again(store: Store) -> None:
    store.beat("a", "host")
    (first,) = rows(store, "workers")
    store.unregister("a")
    store.beat("a", "h" * 300)
    store.beat("a", "host")
    (again,) = rows(store, "workers")
    assert again["last_seen"] >= again["started_at"] > first["started_at"]


def test_simultaneous_sweeps_free_each_activity_once(store: Store) -> None:
    execution = begin(store, activities=[activity(number) for number in range(1, 21)])
    for number in range(1, 21):
        assert store.claim(ticket_of(execution, number), f"gone{number % 4}", LEASE)
    assert sum(at_once([lambda: store.free_abandoned(LEASE)] * 4)) == 20
    assert {row["sends"] for row in rows(store, "outbox")} == {1}


# -- what is due ------------------------------------------------------------------------------------------------


def test_nothing_is_due_in_an_empty_store(store: Store) -> None:
    assert store.look(LEASE)[:2] == (False, False)
    assert store.due_wakes(10) == []
    assert store.due_activities(10) == []


def test_activities_become_due_one_by_one_in_order(store: Store) -> None:
    execution = begin(store, activities=[activity(n, timeout=n * 1000) for n in (3, 1, 2)] + [activity(4)])
    past(store, outbox_row(store, 3)["check_at"])
    assert store.look(LEASE)[:2] == (False, True)
    assert [due.row.ticket.command for due in store.due_activities(10)] == [1, 2, 3]
    assert [due.row.ticket.command for due in store.due_activities(2)] == [1, 2]
    (first, *_) = store.due_activities(1)
    assert (first.row.ticket, first.row.instance, first.row.name) == (ticket_of(execution), "i", "task")
    assert first.deadline_at == first.check_at <= first.now


def test_messages_become_due_in_order(store: Store) -> None:
    begin(store)
    for name, after in (("late", -1 * SECOND), ("early", -3 * SECOND), ("never", None), ("to come", 60 * SECOND)):
        store.put([event(name=name, dedup=name, check_after=after)])
    assert store.look(LEASE)[:2] == (True, False)
    first, second = store.due_wakes(10)
    assert first.check_at < second.check_at <= second.now
    assert (first.kind, first.instance, first.name, first.status) == ("EventRaised", "i", "orchestrator", "RUNNING")
    assert [due.id for due in store.due_wakes(1)] == [first.id]


def test_a_message_whose_instance_is_gone_is_shown_without_a_name(store: Store) -> None:
    execution = begin(store)
    store.put([event(check_after=0)])
    (due,) = store.due_wakes(10)
    store.drop_wake(due)
    assert rows(store, "inbox") == []
    store.drop_wake(due)
    commit(store, own_inbox=[event("nobody", check_after=0)])
    (orphan,) = store.due_wakes(10)
    assert (orphan.name, orphan.status, execution) == (None, None, execution)


def test_only_the_first_sweeper_moves_a_message(store: Store) -> None:
    begin(store)
    store.put([event(check_after=0)])
    (due,) = store.due_wakes(10)
    assert at_once([lambda: store.move_wake(due, 60 * SECOND, sends=1)] * 4).count(True) == 1
    (row,) = rows(store, "inbox")
    assert (row["check_at"], row["sends"]) == (due.now + 60 * SECOND, 1)
    assert store.due_wakes(10) == []


def test_a_message_can_be_left_alone_for_ever(store: Store) -> None:
    begin(store)
    store.put([event(check_after=0)])
    (due,) = store.due_wakes(10)
    assert store.move_wake(due, None)
    assert rows(store, "inbox")[0]["check_at"] is None
    assert store.look(LEASE)[:2] == (False, False)


def test_only_the_first_sweeper_moves_an_activity(store: Store) -> None:
    begin(store, activities=[activity(is_sent=False)])
    (due,) = store.due_activities(10)
    assert due.sent_at is None
    moved = at_once([lambda: store.move_activity(due, 60 * SECOND, sends=1, is_sent=True)] * 4)
    assert moved.count(True) == 1
    row = outbox_row(store)
    assert (row["check_at"], row["sends"], row["sent_at"]) == (due.now + 60 * SECOND, 1, due.now)


def test_an_activity_is_looked_at_again_before_its_limit_passes(store: Store) -> None:
    begin(store, activities=[activity(is_sent=False, timeout=5 * SECOND, start_timeout=2 * SECOND)])
    (due,) = store.due_activities(10)
    assert store.move_activity(due, 60 * SECOND)
    assert outbox_row(store)["check_at"] == due.start_by < due.deadline_at


def test_a_message_that_could_not_be_sent_is_due_soon(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2)])
    store.mark_held("a", [ticket_of(execution, 2)])
    store.unsend([ticket_of(execution, 1), ticket_of(execution, 2), ticket_of("unknown")], delay=0)
    assert [due.row.ticket.command for due in store.due_activities(10)] == [1]
    assert store.due_activities(10)[0].sent_at is None
    assert outbox_row(store, 2)["sent_at"] is not None


# -- limits -----------------------------------------------------------------------------------------------------


def test_limits_count_from_the_commit(store: Store) -> None:
    before = store.now()
    begin(store, activities=[activity(timeout=7 * SECOND, start_timeout=5 * SECOND, heartbeat_timeout=3 * SECOND)])
    row = outbox_row(store)
    after = store.now()
    assert before + 7 * SECOND <= row["deadline_at"] <= after + 7 * SECOND
    assert row["start_by"] - row["deadline_at"] == -2 * SECOND
    assert row["beat_by"] is None
    assert row["beat_timeout"] == 3 * SECOND


@pytest.mark.parametrize("how", ["claim", "mark"])
def test_a_running_activity_is_looked_at_when_its_next_limit_passes(store: Store, how: str) -> None:
    def take(command: int) -> None:
        if how == "claim":
            assert store.claim(ticket_of(execution, command), "a", LEASE)
        else:
            store.mark_held("a", [ticket_of(execution, command)])

    execution = begin(
        store,
        activities=[
            activity(1, timeout=9 * SECOND, heartbeat_timeout=5 * SECOND, start_timeout=SECOND),
            activity(2, timeout=3 * SECOND, heartbeat_timeout=50 * SECOND, start_timeout=SECOND),
            activity(3, heartbeat_timeout=5 * SECOND),
            activity(4, start_timeout=SECOND),
        ],
    )
    for command in range(1, 5):
        take(command)
    found = {row["command"]: row for row in rows(store, "outbox")}
    assert {row["start_by"] for row in found.values()} == {None}
    assert abs(found[1]["check_at"] - found[1]["beat_by"]) < 50_000
    assert found[2]["check_at"] == found[2]["deadline_at"]
    assert abs(found[3]["check_at"] - found[3]["beat_by"]) < 50_000
    assert found[4]["check_at"] is None


def test_a_heartbeat_moves_the_next_look_and_keeps_details(store: Store) -> None:
    execution = begin(store, activities=[activity(heartbeat_timeout=5 * SECOND)])
    ticket = ticket_of(execution)
    store.claim(ticket, "a", LEASE)
    before = outbox_row(store)
    past(store, store.now() + 2000)
    assert store.heartbeat(ticket, '{"done": "\\u0000"}')
    after = outbox_row(store)
    assert after["beat_by"] > before["beat_by"]
    assert after["check_at"] > before["check_at"]
    assert store.begin_activity(ticket, None).details == '{"done": "\\u0000"}'
    record(store, succeeded(execution))
    assert not store.heartbeat(ticket, None)


def test_an_activity_with_a_limit_must_be_claimed_before_it_runs(store: Store) -> None:
    execution = begin(
        store, activities=[activity(1), activity(2, start_timeout=SECOND), activity(3, heartbeat_timeout=SECOND)]
    )
    claims = [store.begin_activity(ticket_of(execution, number), None).must_claim for number in (1, 2, 3)]
    assert claims == [False, True, True]


def test_a_postponed_activity_is_left_to_celery_until_its_time(store: Store) -> None:
    execution = begin(store, activities=[activity(is_sent=False)])
    store.mark_held("a", [ticket_of(execution)])
    assert store.postpone(ticket_of(execution), 3600 * SECOND)
    row = outbox_row(store)
    assert row["holder"] is None
    assert row["check_at"] > store.now() + 3500 * SECOND
    assert store.due_activities(10) == []
    assert store.free_abandoned(0) == 0
    assert not store.postpone(ticket_of("unknown"), 0)


def test_postponing_an_activity_does_not_postpone_its_time_limit(store: Store) -> None:
    execution = begin(store, activities=[activity(timeout=SECOND // 10)])
    store.mark_held("a", [ticket_of(execution)])
    store.postpone(ticket_of(execution), 3600 * SECOND)
    row = outbox_row(store)
    assert row["check_at"] <= row["deadline_at"]


def test_a_delegated_activity_is_judged_by_its_deadline_only(store: Store) -> None:
    execution = begin(store, activities=[activity(1), activity(2, timeout=3600 * SECOND)])
    for command in (1, 2):
        store.mark_held("a", [ticket_of(execution, command)])
        assert store.delegate(ticket_of(execution, command))
    assert store.free_abandoned(0) == 0
    first, second = (outbox_row(store, command) for command in (1, 2))
    assert (first["check_at"], first["holder"], bool(first["is_delegated"])) == (None, None, True)
    assert second["check_at"] == second["deadline_at"]
    assert not store.delegate(ticket_of("unknown"))
    assert record(store, succeeded(execution, 1)) is not None


# -- the rest -----------------------------------------------------------------------------------------------------


def test_crashes_are_counted_until_a_turn_commits(store: Store) -> None:
    begin(store)
    assert [store.count_crash("i") for _ in range(3)] == [1, 2, 3]
    assert store.load("i", None).instance.crashes == 3
    commit(store)
    assert store.load("i", None).instance.crashes == 0
    assert store.count_crash("unknown") == 0


def test_simultaneous_crashes_all_count(store: Store) -> None:
    begin(store)
    at_once([lambda: store.count_crash("i")] * 5)
    assert store.load("i", None).instance.crashes == 5


def test_what_an_instance_waits_for_is_noted_and_goes_away_with_the_next_turn(store: Store) -> None:
    begin(store)
    store.note_waiting("i", "waits for a worker")
    store.note_waiting("i", "waits for a worker")
    store.note_waiting("unknown", "nothing")
    assert store.fetch("i").reason == "waits for a worker"
    commit(store)
    assert store.fetch("i").reason is None


def test_a_join_is_looked_at_for_itself_not_for_its_members(store: Store) -> None:
    execution = begin_join(store, 5)
    for command in (1, 2, 3):
        record(store, succeeded(execution, command))
    looked_at = {row["kind"] for row in rows(store, "inbox") if row["check_at"] is not None}
    assert looked_at == {"Join"}


def test_the_store_answers_for_addresses_in_any_number(store: Store) -> None:
    begin(store)
    ids = ["i", *[f"unknown {number}" for number in range(70_000)]]
    assert [address.id for address in store.turn_addresses(ids)] == ["i"]
    assert store.turn_addresses([]) == []


# -- between the start of an activity and its mark -----------------------------------------------------------


@pytest.fixture
def queued(store: Store) -> tuple[World, ActivityTicket]:
    """An activity whose message is on its way."""
    world = World(store, resend_after=0.2, heartbeat_interval=0.2, recovery_interval=0.1, worker_lease=5.0)

    @world.orchestrator
    async def one(ctx: Any) -> Any:
        return await ctx.call(sig("charge", 1))

    world.start("one")
    world.runner.run("i")
    return world, world.publisher.activities.popleft().ticket


def test_an_activity_that_may_run_unmarked_is_looked_at_twice_before_it_is_sent_again(
    store: Store, queued: tuple[World, ActivityTicket]
) -> None:
    world, _ = queued
    sent = outbox_row(store)["sent_at"]
    for look in (1, 2):
        past(store, outbox_row(store)["check_at"])
        assert world.recovery().repair_activities() == 1
        assert len(world.publisher.activities) == look - 1
    assert store.now() - sent >= 0.7 * SECOND, "2 heartbeats and a tick after the first look"
    assert outbox_row(store)["sends"] == 1


def test_an_activity_that_begins_after_the_first_look_claims_and_is_not_sent_again(
    store: Store, queued: tuple[World, ActivityTicket]
) -> None:
    world, ticket = queued
    assert not store.begin_activity(ticket, None).must_claim
    past(store, outbox_row(store)["check_at"])
    world.recovery().repair_activities()
    assert store.begin_activity(ticket, None).must_claim
    store.beat("a", "host")
    assert store.claim(ticket, "a", LEASE)
    past(store, store.now() + SECOND)
    world.recovery().repair_activities()
    assert not world.publisher.activities
