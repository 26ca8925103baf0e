"""Schedules: each tick starts one instance among all workers, and what a schedule is told is what
it does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from sqlalchemy import text

from celery_durable import ConfigurationError, Durable, DurableError, PayloadError, RuntimeStatus
from celery_durable.engine.due import Move
from celery_durable.engine.schedules import instance_of, jitter_of, tick_id
from celery_durable.errors import ScheduleNotFound
from celery_durable.store import Store
from tests.conftest import wait_until

from .builders import SECOND, at_once, inbox, rows
from .world import ENDED, World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3600


class Clients:
    """A process that declares schedules, and never runs anything."""

    def __init__(self, url: str) -> None:
        self.app = Celery("schedules", broker="memory://", set_as_current=False)
        self.app.conf.durable_backend_url = url
        self.durable = Durable(self.app)

        @self.durable.orchestrator(name="report", shared=False)
        async def report(ctx: Any, *args: Any, **kwargs: Any) -> Any: ...

        @self.durable.orchestrator(name="wait", shared=False)
        async def wait(ctx: Any) -> Any: ...

        @self.durable.orchestrator(name="elsewhere", shared=False)
        async def elsewhere(ctx: Any) -> Any: ...

        @self.app.task(name="plain", shared=False)
        def plain() -> None: ...

        self.report, self.wait, self.elsewhere, self.plain = report, wait, elsewhere, plain

    def schedule(self, name: str = "s", signature: Any = None, **options: Any) -> Any:
        if not {"cron", "interval"} & set(options):
            options["interval"] = HOUR
        return self.durable.schedule(
            name, self.report.s(1) if signature is None else signature, **options
        )


def url_of(store: Store) -> str:
    return store.database.url.render_as_string(hide_password=False)


def new_world(store: Store) -> World:
    """A worker that knows ``report``, which ends at once, and ``wait``, which waits for an
    event.
    """
    world = World(store, resend_after=0.2)

    @world.orchestrator
    async def report(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    @world.orchestrator
    async def wait(ctx: Any) -> Any:
        return await ctx.wait_event("go")

    return world


@pytest.fixture
def clients(store: Store) -> Iterator[Clients]:
    clients = Clients(url_of(store))
    yield clients
    clients.durable.runtime.store.database.dispose()
    clients.app.close()


@pytest.fixture
def world(store: Store) -> World:
    return new_world(store)


def change(store: Store, sql: str, **values: Any) -> None:
    with store.database.engine.begin() as connection:
        connection.execute(text(sql), values)


def pass_time(store: Store, seconds: float, name: str = "s") -> None:
    """Make it so much later for a schedule, and a little, so that no tick gets the time of one
    before.
    """
    change(
        store,
        "UPDATE durable_schedules SET anchor_at = anchor_at - :by, next_at = next_at - :by,"
        " check_at = check_at - :by, waiting_at = waiting_at - :by WHERE name = :name",
        by=int(seconds * SECOND) + 1000,
        name=name,
    )


def tick(*worlds: World) -> None:
    """Let the recovery of each world look once."""
    for world in worlds:
        world.recovery().tick(list, lambda _: None)


def next_tick(world: World, seconds: float = HOUR) -> str:
    """Let time pass until the next tick, look, and return the instance id of that tick."""
    pass_time(world.store, seconds)
    row = world.store.schedules.get("s")
    assert row is not None and row.next_at is not None
    tick(world)
    return tick_id("s", row.next_at)


def ids(store: Store) -> list[str]:
    return sorted(row["id"] for row in rows(store, "instances"))


# -- ticks -----------------------------------------------------------------------------------------


def test_a_tick_starts_an_instance_that_is_named_by_its_time(
    store: Store, clients: Clients, world: World
) -> None:
    signature = clients.report.s("daily", n=5).set(queue="reports", priority=3)
    schedule = clients.schedule(signature=signature)
    tick(world)
    assert ids(store) == []

    id_ = next_tick(world)

    world.pump()
    record = world.client.fetch(id_)
    assert (record.status, record.queue) == (RuntimeStatus.COMPLETED, "reports")
    assert world.output(id_) == [["daily"], {"n": 5}]
    assert world.codec.decode(record.canvas or "") == {
        "options": {"queue": "reports", "priority": 3}
    }
    schedule.refresh()
    assert (schedule.last_id, tick_id("s", _micros(schedule.last_at))) == (id_, id_)
    assert schedule.next_at == schedule.last_at + timedelta(hours=1)
    tick(world)
    assert ids(store) == [id_]


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def test_a_crontab_line_is_read_in_its_time_zone(
    clients: Clients, store: Store, world: World
) -> None:
    schedule = clients.schedule(
        cron=crontab(minute="30", hour=[2]), tz="Europe/Berlin", catch_up=timedelta(days=2)
    )
    local = schedule.next_at.astimezone(ZoneInfo("Europe/Berlin"))
    assert (local.hour, local.minute, schedule.cron, schedule.tz) == (
        2,
        30,
        "30 2 * * *",
        "Europe/Berlin",
    )
    day_before = schedule.next_at - timedelta(days=1)
    change(
        store, "UPDATE durable_schedules SET next_at = :at, check_at = :at", at=_micros(day_before)
    )
    tick(world)
    assert ids(store) == [f"s@{day_before.astimezone(UTC).isoformat()}"]
    assert schedule.refresh().next_at.astimezone(local.tzinfo).hour == 2


def test_of_many_workers_that_look_at_once_one_starts_each_tick(
    store: Store, clients: Clients
) -> None:
    clients.schedule(overlap="allow", catch_up=timedelta(days=7))
    worlds = [new_world(store) for _ in range(6)]
    started = 0
    for count in (1, 1, 1, 40, 150):
        pass_time(store, count * HOUR)
        while store.recovery.read_backlog(10 * SECOND).has_due_schedule:
            at_once([lambda world=world: tick(world) for world in worlds])
        started += count
        assert len(ids(store)) == started
        sent = [
            address.id for world in worlds for address, *_ in world.publisher.turns
        ]  # on a slow machine recovery, too
        assert (len(set(sent)), set(sent) <= set(ids(store))) == (started, True)
    row = store.schedules.get("s")
    assert row is not None and row.last_at is not None
    # time was moved under the ids, so only those of the last portion are neighbours
    assert {tick_id("s", row.last_at - number * HOUR * SECOND) for number in range(150)} <= set(
        ids(store)
    )


PASSES = """
import sys, time
from tests.contract.test_schedules import new_world, tick
from celery_durable.settings import Settings
from celery_durable.store import open_store

store = open_store(Settings(backend_url=sys.argv[1]))
world = new_world(store)
recovery = world.recovery(sys.argv[2])
print("ready", flush=True)
while True:
    recovery.tick(list, lambda _: None)
    world.pump()
    time.sleep(0.01)
"""


@pytest.mark.long  # with real workers: tests/integration/test_schedules.py
def test_processes_that_are_killed_at_any_moment_start_each_tick_once(
    store: Store, clients: Clients
) -> None:
    schedule = clients.schedule(interval=0.5, overlap="allow", catch_up=600)

    def begin(number: int) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-c", PASSES, url_of(store), f"worker{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        return process

    processes = [begin(number) for number in range(6)]
    try:
        for number, process in enumerate(processes):
            assert process.stdout.readline() == "ready\n"
            if number >= 3:
                count = len(ids(store))
                wait_until(lambda: len(ids(store)) > count + 2, what="more ticks")
                processes[number - 3].kill()
        schedule.pause()
        wait_until(lambda: _all_over(store), what="the end")
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    last = _micros(schedule.refresh().last_at)
    first = store.schedules.get("s").anchor_at + SECOND // 2
    assert ids(store) == sorted(
        tick_id("s", moment) for moment in range(first, last + 1, SECOND // 2)
    )


def _all_over(store: Store) -> bool:
    return all(RuntimeStatus(row["status"]).is_terminal for row in rows(store, "instances"))


def test_what_is_committed_and_not_sent_is_found(
    store: Store, clients: Clients, world: World
) -> None:
    clients.schedule()
    world.publisher.is_broken = True
    id_ = next_tick(world)
    world.publisher.is_broken = False
    assert not world.publisher.turns
    change(store, "UPDATE durable_inbox SET check_at = 1")
    tick(world)
    world.pump()
    assert world.status(id_) is RuntimeStatus.COMPLETED


class Died(BaseException):
    """The process is gone."""


def test_a_worker_that_dies_in_the_transaction_has_moved_nothing(
    store: Store, clients: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.schedule()
    pass_time(store, HOUR)
    before = store.schedules.get("s")

    def die(*_: Any) -> bool:
        raise Died

    monkeypatch.setattr(store.schedules.starts, "insert_within", die)
    with pytest.raises(Died):
        tick(world)
    assert (store.schedules.get("s"), ids(store)) == (before, [])
    monkeypatch.undo()
    tick(new_world(store))
    assert ids(store) == [tick_id("s", before.next_at)]


def test_a_pass_that_read_before_a_change_does_nothing(store: Store, clients: Clients) -> None:
    schedule = clients.schedule()
    pass_time(store, HOUR)
    (due,) = store.schedules.due(10)
    new = instance_of(due.row, "late", None, clients.durable.runtime.codec, due.now)
    schedule.pause(reason="too late")
    assert (
        store.schedules.advance(due.row, Move(None, None, [due.row.next_at or 0]), [new], None)
        is None
    )
    schedule.delete()
    clients.schedule()
    assert (
        store.schedules.advance(due.row, Move(None, None, [due.row.next_at or 0]), [new], None)
        is None
    )
    assert ids(store) == []


# -- overlap ---------------------------------------------------------------------------------------


def finish(world: World, id_: str) -> None:
    world.pump()
    world.raise_event(id_, "go")
    world.pump_to_end(id_)


def test_skip_leaves_a_tick_out(store: Store, clients: Clients, world: World) -> None:
    schedule = clients.schedule(signature=clients.wait.s())
    first = next_tick(world)
    world.pump()
    next_tick(world)
    next_tick(world)
    assert ids(store) == [first]
    assert schedule.refresh().skipped == 2
    finish(world, first)
    last = next_tick(world)
    assert ids(store) == sorted([first, last])
    assert schedule.refresh().skipped == 2


def test_a_suspended_instance_is_not_over(store: Store, clients: Clients, world: World) -> None:
    clients.schedule(signature=clients.wait.s())
    first = next_tick(world)
    world.pump()
    world.client.suspend(first, None)
    next_tick(world)
    assert ids(store) == [first]


def test_buffer_keeps_one_tick_until_the_one_before_has_ended(
    store: Store, clients: Clients, world: World
) -> None:
    schedule = clients.schedule(signature=clients.wait.s(), overlap="buffer")
    first = next_tick(world)
    world.pump()
    second = next_tick(world)
    change(store, "UPDATE durable_schedules SET check_at = 1")
    tick(world)
    assert ids(store) == [first]
    next_tick(world)
    assert (ids(store), schedule.refresh().skipped) == ([first], 1)

    finish(world, first)
    waiting = store.schedules.get("s").waiting_at
    change(store, "UPDATE durable_schedules SET check_at = 1")
    tick(world)
    assert second != tick_id("s", waiting)  # time was moved under it
    assert ids(store) == sorted([first, tick_id("s", waiting)])
    assert (schedule.refresh().last_id, schedule.skipped) == (tick_id("s", waiting), 1)


def test_a_tick_that_waits_is_looked_for_every_second(
    store: Store, clients: Clients, world: World
) -> None:
    clients.schedule(signature=clients.wait.s(), overlap="buffer")
    first = next_tick(world)
    waiting = next_tick(world)
    finish(world, first)
    assert 0 < store.schedules.get("s").check_at - store.now() <= SECOND
    recovery = world.recovery()
    wait_until(
        lambda: (recovery.tick(list, lambda _: None), waiting in ids(store))[1],
        5,
        "the tick that waited",
    )


def test_cancel_asks_the_one_before_to_end(store: Store, clients: Clients, world: World) -> None:
    clients.schedule(signature=clients.wait.s(), overlap="cancel")
    first = next_tick(world)
    world.pump()
    second = next_tick(world)
    world.pump_to_end(first)
    assert world.status(first) is RuntimeStatus.CANCELED
    assert world.status(second) is RuntimeStatus.RUNNING
    finish(world, second)
    third = next_tick(world)
    assert [world.status(id_) for id_ in (second, third)] == [
        RuntimeStatus.COMPLETED,
        RuntimeStatus.PENDING,
    ]


def test_allow_lets_all_run(store: Store, clients: Clients, world: World) -> None:
    clients.schedule(signature=clients.wait.s(), overlap="allow")
    started = []
    for _ in range(3):
        started.append(next_tick(world))
        world.pump()
    assert [world.status(id_) for id_ in started] == [RuntimeStatus.RUNNING] * 3


# -- outages ---------------------------------------------------------------------------------------


def test_by_default_a_tick_may_be_a_minute_old(
    store: Store, clients: Clients, world: World
) -> None:
    schedule = clients.schedule(interval=20, overlap="allow")
    pass_time(store, 20 * 1000)
    tick(world)
    assert 3 <= len(ids(store)) <= 4
    assert 0 <= (schedule.refresh().next_at - datetime.now(UTC)).total_seconds() <= 20


def test_an_old_tick_is_passed_over(store: Store, clients: Clients, world: World) -> None:
    clients.schedule()
    pass_time(store, HOUR + 61)
    tick(world)
    assert ids(store) == []
    assert store.schedules.get("s").next_at > store.now()


def test_catch_up_says_how_old_a_tick_may_be(store: Store, clients: Clients, world: World) -> None:
    clients.schedule(overlap="allow", catch_up=timedelta(hours=5, minutes=30))
    pass_time(store, 1000 * HOUR)
    row = store.schedules.get("s")
    tick(world)
    last = row.next_at + 999 * HOUR * SECOND
    assert ids(store) == sorted(tick_id("s", last - number * HOUR * SECOND) for number in range(6))


def test_a_pause_starts_nothing_and_is_not_made_up_for(
    store: Store, clients: Clients, world: World
) -> None:
    schedule = clients.schedule(catch_up=timedelta(days=9), overlap="allow")
    assert schedule.pause(reason="holidays") is schedule
    assert (schedule.is_paused, schedule.reason, schedule.next_at) == (True, "holidays", None)
    schedule.pause(reason="again")
    assert schedule.reason == "holidays"
    pass_time(store, 5.5 * HOUR)
    tick(world)
    assert ids(store) == []
    schedule.resume()
    assert (schedule.is_paused, schedule.reason) == (False, None)
    assert timedelta(minutes=29) < schedule.next_at - datetime.now(UTC) <= timedelta(minutes=30)
    schedule.resume()
    tick(world)
    assert ids(store) == []
    next_tick(world)
    assert len(ids(store)) == 1


# -- jitter ----------------------------------------------------------------------------------------


def test_jitter_delays_the_start_always_alike(store: Store, clients: Clients, world: World) -> None:
    clients.schedule(jitter=timedelta(days=30))
    id_ = next_tick(world)
    (message,) = rows(store, "inbox", inbox.c.instance == id_)
    row = store.schedules.get("s")
    assert message["visible_at"] == row.last_at + jitter_of("s", row.last_at, row.jitter)
    assert message["check_at"] == message["visible_at"] - 30 * SECOND  # recovery sends it in time
    assert not world.publisher.turns


def test_a_short_jitter_is_waited_for_by_the_message(
    store: Store, clients: Clients, world: World
) -> None:
    clients.schedule(jitter=29)
    id_ = next_tick(world)
    row = store.schedules.get("s")
    if (start_at := row.last_at + jitter_of("s", row.last_at, row.jitter)) > store.now():
        ((address, delay, due),) = world.publisher.turns
        assert (address.id, due) == (id_, start_at)
        assert 0 < delay <= 29 * SECOND


# -- what cannot be run ----------------------------------------------------------------------------


def test_a_damaged_schedule_holds_no_other_up(store: Store, clients: Clients, world: World) -> None:
    clients.schedule("a", cron="* * * * *")
    clients.schedule("s")
    change(
        store,
        "UPDATE durable_schedules SET timezone = 'Europe/Atlantis', next_at = 1, check_at = 1 WHERE"
        " name = 'a'",
    )
    id_ = next_tick(world)
    assert ids(store) == [id_]
    assert 50 * SECOND < store.schedules.get("a").check_at - store.now() <= 60 * SECOND


def test_a_schedule_is_left_to_a_worker_that_knows_the_orchestrator(
    store: Store, clients: Clients, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    clients.schedule(signature=clients.elsewhere.s())
    next_tick(world)
    assert (ids(store), caplog.text) == ([], "")
    change(store, "UPDATE durable_schedules SET check_at = check_at - 11000000")
    tick(world)
    assert "'elsewhere'" in caplog.text
    assert 5 * SECOND < store.schedules.get("s").check_at - store.now() <= 10 * SECOND

    async def elsewhere(ctx: Any) -> None: ...

    world.orchestrator(elsewhere, version="2")
    change(store, "UPDATE durable_schedules SET check_at = 1")
    tick(world)
    (id_,) = ids(store)
    assert world.client.fetch(id_).version == "2"


# -- declaring -------------------------------------------------------------------------------------


def test_declaring_again_changes_nothing(store: Store, clients: Clients, world: World) -> None:
    schedule = clients.schedule(signature=clients.report.s(1, a=2), catch_up=5, jitter=1.5)
    next_tick(world)
    before = store.schedules.get("s")
    again = clients.schedule(
        signature=clients.report.s(1, a=2),
        interval=timedelta(hours=1),
        catch_up=timedelta(seconds=5),
        jitter=1.5,
    )
    assert store.schedules.get("s") == before
    assert (again.catch_up, again.jitter, again.interval) == (
        timedelta(seconds=5),
        timedelta(seconds=1.5),
        timedelta(hours=1),
    )
    assert (schedule.cron, schedule.orchestrator, schedule.overlap) == (None, "report", "skip")


def test_another_definition_holds_from_now_on(store: Store, clients: Clients, world: World) -> None:
    clients.schedule()
    pass_time(store, HOUR / 2)
    before = store.schedules.get("s")
    assert clients.schedule(
        signature=clients.report.s(2), overlap="allow"
    ).next_at == EPOCH + timedelta(microseconds=before.next_at)
    id_ = next_tick(world, HOUR / 2)
    world.pump()
    assert world.output(id_) == [[2], {}]
    changed = clients.schedule(interval=60)
    assert timedelta(seconds=50) < changed.next_at - datetime.now(UTC) <= timedelta(seconds=60)
    assert changed.last_id == id_
    changed = clients.schedule(cron="0 0 1 1 *")
    assert (changed.next_at.month, changed.next_at.day, changed.interval) == (1, 1, None)
    changed.pause()
    assert clients.schedule(interval=30).is_paused


def test_many_declare_at_once(clients: Clients) -> None:
    made = at_once([lambda: clients.schedule(interval=60)] * 6)
    assert len({handle._row.created_at for handle in made}) == 1
    at_once(
        [lambda seconds=seconds: clients.schedule(interval=seconds) for seconds in (61, 62, 63, 64)]
    )
    assert clients.durable.get_schedule("s").interval.total_seconds() in (61, 62, 63, 64)


def test_schedules_are_listed_and_found(clients: Clients) -> None:
    assert clients.durable.schedules() == []
    for name in ("b", "a", "ä" * 100):
        clients.schedule(name)
    assert [schedule.name for schedule in clients.durable.schedules()] == ["a", "b", "ä" * 100]
    assert repr(clients.durable.get_schedule("a")) == "<Schedule 'a' of report>"
    with pytest.raises(ScheduleNotFound, match="'c'") as caught:
        clients.durable.get_schedule("c")
    assert isinstance(caught.value, (DurableError, LookupError)) and caught.value.name == "c"


def test_the_time_zone_of_the_app_is_the_default(clients: Clients) -> None:
    assert clients.schedule(cron="0 5 * * *").tz == "UTC"
    clients.app.conf.timezone = "America/New_York"
    assert clients.schedule(cron="0 5 * * *").tz == "America/New_York"
    assert clients.schedule(cron="0 5 * * *", tz=UTC).tz == "UTC"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"cron": "* * * *"}, ValueError, "five fields"),
        ({"cron": "61 * * * *"}, ValueError, "crontab line"),
        ({"cron": schedule(5)}, TypeError, "crontab"),
        ({"cron": "* * * * *", "tz": "Europe/Atlantis"}, ValueError, "Atlantis"),
        ({"cron": "* * * * *", "tz": 5}, ValueError, "time zone"),
        ({"interval": -1}, ValueError, "negative"),
        ({"interval": timedelta(seconds=-1)}, ValueError, "negative"),
        ({"interval": 0}, ValueError, "0.1 seconds"),
        ({"interval": float("nan")}, ValueError, "finite"),
        ({"interval": float("inf")}, ValueError, "finite"),
        ({"interval": 1e12}, ValueError, "1,000,000 days"),
        ({"interval": "5"}, TypeError, "interval"),
        ({"interval": True}, TypeError, "interval"),
        ({"interval": None, "cron": None}, ValueError, "neither"),
        ({"interval": 5, "cron": "* * * * *"}, ValueError, "both"),
        ({"overlap": "queue"}, ValueError, "'queue'"),
        ({"overlap": ["skip"]}, ValueError, "overlap"),
        ({"catch_up": -1}, ValueError, "catch_up"),
        ({"catch_up": None}, TypeError, "catch_up"),
        ({"jitter": -1}, ValueError, "jitter"),
        ({"name": ""}, ValueError, "100 characters"),
        ({"name": "n" * 101}, ValueError, "100 characters"),
        ({"name": "a\0"}, ValueError, "NUL"),
        ({"name": "\ud800"}, ValueError, "Unicode"),
        ({"name": 5}, TypeError, "string"),
        ({"signature": "report"}, TypeError, "durable.schedule"),
        ({"signature": {"task": "unknown"}}, TypeError, "not registered"),
        ({"signature": {"task": "wait", "args": (1,)}}, TypeError, "argument"),
        ({"signature": {"task": "report", "args": (object(),)}}, PayloadError, "object"),
        ({"signature": {"task": "report", "options": {"task_id": "x"}}}, ValueError, "task_id"),
        ({"signature": {"task": "report", "options": {"countdown": 5}}}, ValueError, "countdown"),
    ],
)
def test_what_cannot_be_declared_is_refused_and_changes_nothing(
    store: Store, clients: Clients, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    clients.schedule()
    before = store.schedules.list_all()
    with pytest.raises(error, match=words):
        clients.schedule(**options)
    assert store.schedules.list_all() == before


# -- verbs -----------------------------------------------------------------------------------------


def test_trigger_starts_an_extra_instance(store: Store, clients: Clients, world: World) -> None:
    handle = clients.schedule(signature=clients.wait.s())
    handle.pause()
    runs = [handle.trigger(), handle.trigger()]
    assert ids(store) == sorted(run.id for run in runs)
    assert all(run.id.startswith("s@manual-") for run in runs)
    for run in runs:
        world.runner.run(run.id)
        assert world.status(run.id) is RuntimeStatus.RUNNING
    handle.resume()
    assert next_tick(world) in ids(store)  # what was triggered is not the instance before


def test_backfill_starts_each_past_tick_once(store: Store, clients: Clients, world: World) -> None:
    handle = clients.schedule(cron="0 */6 * * *", overlap="skip", jitter=3000)
    day = datetime(2026, 3, 1, tzinfo=UTC)
    runs = handle.backfill(day, day + timedelta(hours=18))
    assert [run.id for run in runs] == [
        f"s@2026-03-01T{hour:02}:00:00+00:00" for hour in (0, 6, 12, 18)
    ]
    assert handle.backfill(day, day + timedelta(hours=18)) == []
    more = handle.backfill(day - timedelta(seconds=1), day + timedelta(hours=24, microseconds=1))
    assert [run.id for run in more] == ["s@2026-03-02T00:00:00+00:00"]
    for run in runs + more:
        world.runner.run(run.id)
        assert world.status(run.id) in ENDED
    assert handle.refresh().last_at is None


def test_a_tick_that_was_backfilled_is_not_started_again(
    store: Store, clients: Clients, world: World
) -> None:
    handle = clients.schedule()
    pass_time(store, HOUR)
    (run,) = handle.backfill(
        datetime.now(UTC) - timedelta(minutes=1), datetime.now(UTC) - timedelta(microseconds=1)
    )
    tick(world)
    assert ids(store) == [run.id]
    assert not world.publisher.turns
    assert handle.refresh().next_at > datetime.now(UTC)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC), "naive"),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), "has not"),
        (datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "portions"),
    ],
)
def test_a_backfill_that_cannot_be_is_refused(
    store: Store, clients: Clients, start, end, words
) -> None:
    handle = clients.schedule()
    with pytest.raises(ValueError, match=words):
        handle.backfill(start, end)
    assert ids(store) == []


def test_a_deleted_schedule_starts_nothing_and_its_verbs_say_so(
    store: Store, clients: Clients, world: World
) -> None:
    handle = clients.schedule()
    first = next_tick(world)
    handle.delete()
    handle.delete()
    assert clients.durable.schedules() == []
    past = datetime(2026, 1, 1, tzinfo=UTC)
    verbs: list[Callable[[], object]] = [
        handle.pause,
        handle.resume,
        handle.trigger,
        handle.refresh,
        lambda: handle.backfill(past, past),
    ]
    for verb in verbs:
        with pytest.raises(ScheduleNotFound):
            verb()
    assert ids(store) == [first]


def test_a_process_that_does_not_know_the_orchestrator_cannot_trigger_it(
    clients: Clients, store: Store
) -> None:
    clients.schedule()
    change(store, "UPDATE durable_schedules SET orchestrator = 'undelivered'")
    with pytest.raises(ConfigurationError, match="undelivered"):
        clients.durable.get_schedule("s").trigger()
    assert ids(store) == []
