"""``durable_guard``: an orchestrator's code is looked at while it runs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from time import time as clock
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from celery_durable import Durable, RuntimeStatus
from celery_durable.errors import DeterminismWarning
from celery_durable.testing import DurableEnv, durable_environment

HERE = __file__
log = logging.getLogger("tests.guard")


class Late(datetime):
    pass


@contextmanager
def measured() -> Iterator[float]:
    yield time.perf_counter()


def enter() -> float:
    with measured() as began:
        return began


#: One line each, what it is called, and what to write instead.
BAD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "time": (lambda: time.time(), "time.time()", "ctx.now()"),
    "from time": (lambda: clock(), "time.time()", "ctx.now()"),
    "monotonic": (lambda: time.monotonic(), "time.monotonic()", "ctx.now()"),
    "now": (lambda: datetime.now(UTC), "datetime.now()", "ctx.now()"),
    "now of a subclass": (lambda: Late.now(), "datetime.now()", "ctx.now()"),
    "utcnow": (lambda: datetime.now(), "datetime.now()", "ctx.now()"),
    "today": (lambda: date.today(), "datetime.today()", "ctx.now()"),
    "sleep": (lambda: time.sleep(0), "time.sleep()", "ctx.sleep"),
    "random": (lambda: random.random(), "a function of random", "ctx.random"),
    "randint": (lambda: random.randint(1, 3), "a function of random", "ctx.random"),
    "shuffle": (lambda: random.shuffle([1, 2]), "a function of random", "ctx.random"),
    "secrets": (lambda: secrets.token_hex(), "os.urandom()", "ctx.random"),
    "uuid4": (lambda: uuid.uuid4(), "uuid.uuid4()", "ctx.uuid4()"),
    "uuid1": (lambda: uuid.uuid1(), "uuid.uuid1()", "ctx.uuid4()"),
    "urandom": (lambda: os.urandom(1), "os.urandom()", "ctx.random"),
    "environ": (lambda: os.environ["PATH"], "os.environ", "ctx.run"),
    "getenv": (lambda: os.getenv("PATH"), "os.environ", "ctx.run"),
    "open": (lambda: open(HERE).close(), "open()", "activity"),
    "read_text": (lambda: Path(HERE).read_text(), "open()", "activity"),
    "exists": (lambda: Path(HERE).exists(), "os.stat()", "activity"),
    "connect": (lambda: _connect(), "socket.connect_ex()", "activity"),
    "thread": (lambda: threading.Thread(target=print).start(), "threading.Thread.start()", "gather"),
    "subprocess": (lambda: subprocess.run(["true"]), "subprocess", "activity"),
    "context manager": (enter, "time.perf_counter()", "ctx.now()"),
}  # fmt: skip


def _connect() -> None:
    with socket.socket() as own:
        own.connect_ex(("127.0.0.1", 9))


def _logs() -> None:
    log.warning("it is %s", "fine")


def _imports() -> None:
    sys.modules.pop("tests.testing.guard_imported", None)
    import tests.testing.guard_imported  # noqa: F401


GOOD: dict[str, Callable[[], Any]] = {
    "seeded": lambda: random.Random(3).randint(1, 2),
    "given": lambda: datetime(2020, 1, 1, tzinfo=UTC).astimezone(ZoneInfo("Pacific/Auckland")),
    "from timestamp": lambda: (datetime.fromtimestamp(3, UTC), time.gmtime(3)),
    "logging": _logs,
    "import": _imports,
    "uuid5": lambda: uuid.uuid5(uuid.NAMESPACE_DNS, "a"),
    "path": lambda: os.path.join("a", "b"),
}


class World:
    """One application for each mode, whose orchestrators do what they are told."""

    def __init__(self, mode: str) -> None:
        self.app = Celery(f"guard-{mode}", broker="memory://", set_as_current=False)
        self.app.conf.update(durable_guard=mode, durable_retention=3600)
        self.durable = Durable(self.app)
        self.todo: Callable[[], Any] = int

        @self.app.task(name=f"guard.{mode}.free")
        def free() -> None:
            self.todo()

        @self.durable.orchestrator(name=f"guard.{mode}.direct")
        async def direct(ctx: Any) -> str:
            await ctx.sleep(1)
            self.todo()
            return "done"

        @self.durable.orchestrator(name=f"guard.{mode}.aside")
        async def aside(ctx: Any) -> str:
            with suppress(BaseException):
                await ctx.run(self.todo)
            await ctx.call(free.s())
            ctx.logger.warning("%s %s", ctx.now(), ctx.uuid4())
            ctx.random.shuffle([1, 2, 3])
            return "done"

        @self.durable.orchestrator(name=f"guard.{mode}.generator")
        def generator(ctx: Any) -> Any:
            yield ctx.sleep(1)
            self.todo()
            return "done"

        @self.durable.orchestrator(name=f"guard.{mode}.tasks")
        async def tasks(ctx: Any) -> str:
            async def one() -> None:
                await ctx.sleep(1)
                self.todo()

            await asyncio.gather(one(), ctx.sleep(2))
            return "done"

        @self.durable.orchestrator(name=f"guard.{mode}.replayed")
        async def replayed(ctx: Any) -> str:
            self.todo()
            await ctx.sleep(1)
            return "done"

        @self.durable.orchestrator(name=f"guard.{mode}.catches")
        async def catches(ctx: Any) -> str:
            with suppress(Exception):
                self.todo()
            return "done"

        self.orchestrators = {
            each.name.rpartition(".")[2]: each
            for each in (direct, aside, generator, tasks, replayed, catches)
        }

    def run(self, name: str, todo: Callable[[], Any], env: DurableEnv) -> Any:
        self.todo = todo
        return env.run(self.orchestrators[name].s())


WORLDS = {mode: World(mode) for mode in ("off", "warn", "raise")}


def told(name: str, todo: Callable[[], Any], mode: str = "warn") -> list[warnings.WarningMessage]:
    with (
        warnings.catch_warnings(record=True) as found,
        durable_environment(WORLDS[mode].durable) as env,
    ):
        warnings.simplefilter("default")
        assert WORLDS[mode].run(name, todo, env) == "done"
    return [each for each in found if each.category is DeterminismWarning]


@pytest.mark.parametrize("case", BAD)
def test_it_tells_of_a_call_with_its_line_and_what_to_write(case: str) -> None:
    todo, what, instead = BAD[case]
    found = told("direct", todo)
    assert len(found) == 1, [str(each.message) for each in found]
    assert found[0].filename == HERE
    text = str(found[0].message)
    assert f" uses {what} " in text and instead in text, text


@pytest.mark.parametrize("case", GOOD)
def test_what_a_replay_repeats_is_left_alone(case: str) -> None:
    assert told("direct", GOOD[case]) == []


def _all() -> None:
    for todo, *_ in BAD.values():
        todo()


def test_activities_and_ctx_run_are_free() -> None:
    assert told("aside", _all) == []


@pytest.mark.parametrize("name", ["generator", "tasks", "catches"])
def test_it_sees_each_kind_of_orchestrator(name: str) -> None:
    assert [str(each.message).split()[2] for each in told(name, lambda: time.time())] == [
        "time.time()"
    ]


def test_it_tells_of_a_line_once() -> None:
    todo = lambda: [time.time() for _ in range(3)]
    with (
        warnings.catch_warnings(record=True) as found,
        durable_environment(WORLDS["warn"].durable) as env,
    ):
        warnings.simplefilter("default")
        for name in ("direct", "tasks", "direct"):
            WORLDS["warn"].run(name, todo, env)
    assert len([each for each in found if each.category is DeterminismWarning]) == 1


def test_off_does_nothing_at_all() -> None:
    seen = []
    assert told("direct", lambda: seen.append(sys.getprofile()), "off") == []
    assert told("direct", _all, "off") == []
    assert seen == [None]
    assert told("direct", lambda: seen.append(sys.getprofile()), "warn") == []
    assert seen[1] is not None and sys.getprofile() is None


def test_off_imports_nothing() -> None:
    code = (
        "import sys; from celery import Celery; from celery_durable import Durable;"
        " durable = Durable(Celery(broker='memory://')); durable.app.conf.durable_backend_url = 'sqlite://';"
        " durable.runtime.runner; print('celery_durable.guarding' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


class _Listener:
    """One who is told of collections, and looks at the clock."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        self.times.append(time.perf_counter())

    def method(self, phase: str, info: dict[str, int]) -> None:
        self(phase, info)

    def function(self) -> Callable[[str, dict[str, int]], None]:
        return lambda phase, info: self(phase, info)


class _Finalized:
    """In a circle, so that only a collection ends it."""

    def __init__(self, times: list[float]) -> None:
        self.times, self.me = times, self

    def __del__(self) -> None:
        self.times.append(time.perf_counter())


@pytest.mark.parametrize("kind", ["__call__", "method", "function", "finalizer"])
@pytest.mark.parametrize("place", [0, -1], ids=["before all others", "after them"])
def test_who_hears_of_collections_is_no_orchestrator(place: int, kind: str) -> None:
    listener = _Listener()
    given: Any = {
        "__call__": listener, "method": listener.method, "function": listener.function(),
        "finalizer": None,
    }[kind]  # fmt: skip
    given and gc.callbacks.insert(place if place == 0 else len(gc.callbacks), given)
    try:
        assert told("direct", lambda: _Finalized(listener.times) and gc.collect() and None) == []
    finally:
        given and gc.callbacks.remove(given)
    assert listener.times


@pytest.mark.parametrize("name", ["direct", "generator", "tasks", "catches"])
def test_raise_suspends_with_the_line(name: str) -> None:
    """Whether the code catches it or not; and goes on once the code is well."""
    world = WORLDS["raise"]
    with durable_environment(world.durable) as env:
        world.todo = lambda: time.time()
        run = env.start(world.orchestrators[name].s())
        env.advance(seconds=5)
        run.refresh()
        assert run.runtime_status is RuntimeStatus.SUSPENDED
        line = world.todo.__code__.co_firstlineno
        assert (
            f"ForbiddenOperation: {HERE}:{line} uses time.time() in an orchestrator" in run.reason
        )
        world.todo = int
        run.resume()
        env.advance(seconds=5)
        assert run.refresh().output == "done"


def test_a_replay_names_the_line_and_not_what_follows_from_it() -> None:
    world = WORLDS["raise"]
    with durable_environment(world.durable) as env:
        env.check_determinism(hash_seeds=0)  # each turn replays
        world.todo = int
        run = env.start(world.orchestrators["replayed"].s())
        world.todo = lambda: time.time()
        env.advance(seconds=5)
        assert run.refresh().runtime_status is RuntimeStatus.SUSPENDED
        assert run.reason.startswith("ForbiddenOperation"), run.reason


def test_a_warning_can_be_made_an_error() -> None:
    world = WORLDS["warn"]
    with warnings.catch_warnings(), durable_environment(world.durable) as env:
        warnings.simplefilter("error", DeterminismWarning)
        with pytest.raises(DeterminismWarning, match="time.time"):
            world.run("direct", lambda: time.time(), env)


def test_raise_leaves_activities_alone() -> None:
    assert told("aside", _all, "raise") == []


def test_another_profiler_is_left_where_it_is() -> None:
    calls: list[str] = []
    mine = lambda frame, event, argument: calls.append(event)
    sys.setprofile(mine)
    try:
        assert told("direct", lambda: time.time()) == []
        assert sys.getprofile() is mine and calls
    finally:
        sys.setprofile(None)
