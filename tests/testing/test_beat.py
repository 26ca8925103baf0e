"""``durable_beat``: entries of ``beat_schedule`` are schedules, of whatever worker declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule
from click.testing import CliRunner

from celery_durable import ConfigurationError, Durable, RuntimeStatus
from celery_durable.cli import durable as group
from celery_durable.errors import InvalidState
from celery_durable.testing import DurableEnv, durable_environment
from celery_durable.worker.beat import BeatSchedules

app = Celery("beats", broker="memory://", set_as_current=False)
durable = Durable(app)
ran: list[Any] = []
MINUTE = {"task": "beats.tick", "schedule": 60.0, "args": ("a",)}


class Sunset(BaseSchedule):
    """A schedule that Celery's beat alone understands."""


@app.task(name="beats.tick")
def tick(what: str, n: int = 0) -> str:
    ran.append(what)
    return what


@app.task(name="beats.durable", durable=True)
def always(what: str) -> str:
    return what


@durable.orchestrator(name="beats.orchestrator")
async def orchestrator(ctx: Any) -> str:
    return await ctx.call(tick.s("o"))


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    ran.clear()
    with durable_environment(durable) as env:
        yield env
    app.conf.beat_schedule = {}


@pytest.fixture
def worker(env: DurableEnv) -> Callable[[str, dict[str, Any]], BeatSchedules]:
    """Make what a worker of this id declares of a ``beat_schedule``."""

    def declare(id_: str, entries: dict[str, Any]) -> BeatSchedules:
        app.conf.beat_schedule = entries
        runtime = durable.runtime
        runtime.worker_id = id_
        runtime.store.workers.heartbeat(id_, id_)
        made = BeatSchedules(app, runtime)
        made.declare()
        return made

    return declare


def states() -> dict[str, str]:
    return {each.name: each.state for each in durable.schedules()}


def test_each_tick_comes_once_from_several_workers(env: DurableEnv, worker: Any) -> None:
    for id_ in ("w1", "w2", "w1"):
        worker(id_, {"minutely": MINUTE})
    assert states() == {"beat:beats:minutely": "active"}
    env.advance(minutes=5)
    assert ran == ["a"] * 5
    assert {run.name for run in durable.find(limit=10).items} == {"beats.tick"}


@pytest.mark.parametrize(
    ("when", "ticks"),
    [
        (crontab(minute="*/15"), 4),
        (schedule(timedelta(minutes=20)), 3),
        (timedelta(minutes=30), 2),
        (600, 6),
    ],
    ids=["crontab", "schedule", "timedelta", "number"],
)
def test_times_of_every_kind(env: DurableEnv, worker: Any, when: Any, ticks: int) -> None:
    worker("w1", {"e": {**MINUTE, "schedule": when}})
    env.advance(hours=1)
    assert len(ran) == ticks


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**MINUTE, "schedule": Sunset()}, "no crontab"),
        ({**MINUTE, "schedule": "* * * * *"}, "str"),
        ({**MINUTE, "schedule": None}, "NoneType"),
        ({**MINUTE, "schedule": True}, "bool"),
        ({**MINUTE, "args": ()}, "what"),
        ({"schedule": 5.0}, "no name of a task"),
        ({**MINUTE, "options": {"task_id": "x"}}, "task_id"),
    ],
    ids=["solar", "text", "none", "flag", "arguments", "task", "option"],
)
def test_a_worker_with_an_entry_that_cannot_be_one_does_not_start(
    env: DurableEnv, worker: Any, entry: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match="'bad'.*") as refused:
        worker("w1", {"bad": entry})
    assert words in str(refused.value)


def test_what_is_paused_stays_so_and_a_changed_entry_is_brought_in(
    env: DurableEnv, worker: Any
) -> None:
    worker("w1", {"e": MINUTE})
    durable.get_schedule("beat:beats:e").pause(reason="for a while")
    worker("w2", {"e": {**MINUTE, "schedule": 120.0}})
    found = durable.get_schedule("beat:beats:e")
    assert (found.is_paused, found.interval, found.state) == (True, timedelta(minutes=2), "paused")
    found.resume()
    env.advance(minutes=4)
    assert len(ran) == 2


def test_two_releases_do_not_undo_each_other(env: DurableEnv, worker: Any) -> None:
    old = worker("old", {"gone": MINUTE})
    new = worker("new", {"other": MINUTE})
    new.poll()
    assert states() == {"beat:beats:gone": "active", "beat:beats:other": "active"}
    durable.runtime.store.workers.unregister("old")
    new._next_poll = 0.0
    new.poll()
    assert states() == {"beat:beats:gone": "undeclared", "beat:beats:other": "active"}
    env.advance(minutes=3)
    assert ran == ["a"] * 3
    gone = durable.get_schedule("beat:beats:gone")
    assert gone.is_paused and "no living worker" in gone.reason
    with pytest.raises(InvalidState, match="undeclared"):
        gone.resume()
    durable.runtime.store.workers.heartbeat("old", "old")
    durable.runtime.worker_id = "old"
    old.poll()  # it was forgotten, and says again what it declares
    assert states()["beat:beats:gone"] == "active"


def test_undeclared_ones_are_pruned_by_hand(env: DurableEnv, worker: Any) -> None:
    worker("old", {"gone": MINUTE})
    durable.runtime.store.workers.unregister("old")
    worker("new", {"other": MINUTE}).poll()
    done = CliRunner().invoke(group, ["schedules", "--prune"], obj=SimpleNamespace(app=app))
    assert done.output.split() == ["beat:beats:gone"], done.output
    assert states() == {"beat:beats:other": "active"}


def test_what_expires_is_not_begun_later(env: DurableEnv, worker: Any) -> None:
    durable.pause(orchestrator="beats.orchestrator")
    entry = {"task": "beats.orchestrator", "schedule": 3600.0, "options": {"expires": 30}}
    worker("w1", {"e": entry})
    env.advance(minutes=61)
    durable.unpause(orchestrator="beats.orchestrator")
    env.advance(minutes=10)
    (run,) = durable.find(limit=10).items
    assert (run.runtime_status, run.reason) == (RuntimeStatus.CANCELED, "expired")


def test_celerys_own_beat_refuses(env: DurableEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    assert app.Beat(loglevel="INFO").app is app
    monkeypatch.setitem(app.conf, "durable_beat", True)
    with pytest.raises(ConfigurationError, match="twice"):
        app.Beat()


def test_a_tick_is_the_same_wherever_workers_die() -> None:
    def scenario(env: DurableEnv) -> Any:
        ran.clear()
        app.conf.beat_schedule = {"e": MINUTE}
        durable.runtime.worker_id = "w1"
        durable.runtime.store.workers.heartbeat("w1", "w1")
        BeatSchedules(app, durable.runtime).declare()
        env.advance(minutes=2)
        return [str(run.output) for run in durable.find(limit=10).items], sorted(set(ran))

    with durable_environment(durable) as env:
        assert env.crash_everywhere(scenario) > 5


def test_send_task_starts_durably(env: DurableEnv) -> None:
    result = app.send_task("beats.durable", ("sent",), task_id="s1")
    env.run_until_idle()
    assert result.id == "s1" and durable.get("s1").output == "sent"
