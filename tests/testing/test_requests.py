"""Requests and queries, from the front door: asked, answered, rejected, kept, and looked at."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from celery_durable import (
    ConfigurationError,
    Durable,
    DurableError,
    InstanceNotFound,
    InvalidState,
    PayloadError,
    Request,
    RequestRejected,
    RuntimeStatus,
)
from celery_durable.testing import DurableEnv, durable_environment
from celery_durable.timeline import timeline_of
from celery_durable.views import current_waits

app = Celery("asking", set_as_current=False)
durable = Durable(app)
broken: set[str] = set()


class NoSuchCity(Exception):
    pass


@dataclass
class Address:
    city: str
    number: int = 1


@app.task(name="asking.is_shipped")
def is_shipped(order):
    if order in broken:
        raise KeyError(order)
    return order == "shipped"


@durable.orchestrator(name="asking.fulfil")
async def fulfil(ctx, order):
    ctx.state.address = order["address"]
    while True:
        request = await ctx.wait_request("change_address")
        if request.data == "stop":
            request.reply("stopped")
            return ctx.state.address
        if await ctx.call(is_shipped.s(order["id"])):
            request.reject("already shipped")
        elif request.data == "Atlantis":
            request.reject(NoSuchCity(request.data))
        else:
            ctx.state.address = request.data
            request.reply({"ok": True})


@fulfil.query
def address(state):
    return state.address


@fulfil.query(name="longer")
def _(state, suffix, *, times=1):
    state.address += suffix * times
    return state.address


@durable.orchestrator(name="asking.slow")
async def slow(ctx):
    request = await ctx.wait_request("x", timeout=timedelta(days=1))
    await ctx.sleep(20)
    request.reply("late")
    try:
        await ctx.wait_request("x", timeout=60)
    except TimeoutError as error:
        return str(error)


@durable.orchestrator(name="asking.both")
async def both(ctx):
    """Takes an event, then requests of the same name, in the order in which they came."""
    found = [await ctx.wait_event("x")]
    for _ in range(3):
        request = await ctx.wait_request("x")
        assert isinstance(request, Request)
        assert request.name == "x"
        found.append((request.id, request.data))
        request.reply(len(found))
    with pytest.raises(InvalidState, match="is answered already"):
        request.reject("no")
    return found


@durable.orchestrator(name="asking.again")
async def again(ctx, keep, round=0):
    ctx.state.round = round
    if round == 0:
        (await ctx.wait_request("said")).reply("said")
        taken = await ctx.wait_request("lost")
        assert taken.data == 0
        await ctx.wait_event("go")
        ctx.continue_as_new(keep, 1, keep_events=keep)
    request = await ctx.wait_request("x")
    request.reply([round, request.data])
    request = await ctx.wait_request("x")
    request.reply([round, request.data])


@again.query
def rounds(state):
    return state.round


@durable.orchestrator(name="asking.typed")
async def typed(ctx):
    found = []
    while len(found) < 2:
        try:
            request = await ctx.wait_request("move", type=Address)
        except PayloadError as error:
            found.append(str(error))
        else:
            found.append(request.data)
            request.reply(Address(request.data.city, request.data.number + 1))
    return repr(found)


@durable.orchestrator(name="asking.ends")
async def ends(ctx, order):
    """Answers one, and holds another one while an activity fails or not."""
    first = await ctx.wait_request("x")
    first.reply("first")
    second = await ctx.wait_request("x")
    await ctx.wait_event("go")
    await ctx.call(is_shipped.s(order))
    if order != "silent":
        second.reply("second")


@pytest.fixture
def env() -> Iterator[DurableEnv]:
    broken.clear()
    with durable_environment(durable) as env:
        yield env


def late(run: Any, name: str, data: Any, id_: str) -> None:
    """Ask, and wait for nothing."""
    with pytest.raises(TimeoutError) as caught:
        run.ask(name, data, timeout=0, request_id=id_)
    assert type(caught.value) is TimeoutError
    assert id_ in str(caught.value)


def kinds(run: Any) -> list[str]:
    return [str(event.kind) for event in run.history()]


# -- the answer ------------------------------------------------------------------------------------


def test_it_asks_and_looks_wherever_the_worker_dies(env):
    def scenario(env: DurableEnv) -> Any:
        run = env.start(fulfil.s({"id": "1", "address": "here"}), instance_id="o")
        said = [run.query("address"), run.ask("change_address", "Rome", request_id="r")]
        said += [run.ask("change_address", "other", request_id="r"), run.query("address")]
        with pytest.raises(NoSuchCity, match="Atlantis"):
            run.ask("change_address", "Atlantis", request_id="a")
        said += [run.ask("change_address", "stop"), run.get(timeout=0)]
        # also after the end
        said += [run.ask("change_address", "x", request_id="r", timeout=0), run.query("address")]
        with pytest.raises(NoSuchCity):
            run.ask("change_address", request_id="a")
        with pytest.raises(InvalidState, match="is COMPLETED: ask needs one that is"):
            run.ask("change_address", "new")
        return said

    assert env.crash_everywhere(scenario) > 10
    ok = {"ok": True}
    assert scenario(env) == ["here", ok, ok, "Rome", "stopped", "Rome", ok, "Rome"]
    found = kinds(durable.get("o"))
    assert found.count("RequestReceived") == found.count("RequestAnswered") == 3


def test_it_rejects_by_text_and_by_exception(env):
    run = env.start(fulfil.s({"id": "shipped", "address": "here"}))
    with pytest.raises(RequestRejected) as caught:
        run.ask("change_address", "Rome", timeout=timedelta(seconds=5), request_id="r")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.instance_id, error.request_id) == ("already shipped", run.id, "r")
    assert isinstance(error, DurableError)
    assert type(error).__module__ == "celery_durable.errors"


def test_no_answer_in_time_leaves_the_request(env):
    run = env.start(slow.s(), instance_id="s")
    assert (
        run.explain().waits_for[0].startswith("a request 'x', until a timer that is due in 23:59")
    )
    late(run, "x", 1, "r")
    late(run, "x", 1, "r")
    assert kinds(run).count("RequestReceived") == 1
    assert run.ask("x", request_id="r", timeout=30) == "late"  # time passes while it waits
    env.advance(minutes=2)
    assert run.get(timeout=0) == "no request 'x' came in time"


def test_requests_and_events_of_one_name_are_kept_apart_and_in_order(env):
    run = env.durable.start(both.s(), instance_id="b", start_at=env.now + timedelta(days=1))
    late(run, "x", "first", "1")  # before it begins
    env.advance(days=1)
    assert run.explain().waits_for == ["event 'x'"]
    run.suspend()
    late(run, "x", "second", "2")
    late(run, "x", "third", "3")
    late(run, "x", "copy", "1")
    assert durable.find(stuck=True).items == []
    run.resume()
    env.event(run, "x", "event")
    assert run.get(timeout=0) == ["event", ["1", "first"], ["2", "second"], ["3", "third"]]
    assert [run.ask("x", request_id=id_) for id_ in "123"] == [2, 3, 4]


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_not_taken_stays_over_continue_as_new(env, keep):
    def scenario(env: DurableEnv) -> Any:
        run = env.start(again.s(keep), instance_id="a")
        assert run.query("rounds") == 0
        assert run.ask("said", request_id="said") == "said"
        late(run, "lost", 0, "lost")
        late(run, "x", 1, "1")
        late(run, "x", 2, "2")
        env.event(run, "go")
        env.run_until_idle()
        said: list[Any] = []
        for id_ in ("said", "lost", "1", "2"):
            try:
                said.append(run.ask("x", request_id=id_, timeout=0))
            except InvalidState as error:
                assert "has continued as new without an answer" in str(error)  # noqa: PT017
                said.append(None)
        return said, run.refresh().runtime_status.is_terminal, run.query("rounds")

    env.crash_everywhere(scenario)
    kept = [[1, 1], [1, 2]] if keep else [None, None]
    assert scenario(env) == (["said", None, *kept], keep, 1)


def test_a_request_that_does_not_fit_its_type_is_used_up_and_rejected(env):
    run = env.start(typed.s(), instance_id="t")
    with pytest.raises(PayloadError, match="the request 'move' does not fit"):
        run.ask("move", {"number": 2})
    assert run.ask("move", Address("Rome")) == {"city": "Rome", "number": 2}
    assert "Address(city='Rome', number=1)" in run.get(timeout=0)
    assert kinds(run).count("PayloadRefused") == 1
    durable.replay(run.export_history(), check_arguments=True)


# -- who is refused --------------------------------------------------------------------------------


def test_there_is_no_answer_of_one_that_is_over_or_not_there(env):
    with pytest.raises(InstanceNotFound):
        durable.get("none")
    run = env.start(ends.s("silent"), instance_id="e")
    assert run.ask("x") == "first"
    late(run, "x", None, "held")
    env.event(run, "go")
    with pytest.raises(InvalidState, match="is COMPLETED"):
        run.ask("x", request_id="held")
    other = env.start(ends.s("1"), instance_id="t")
    late(other, "y", None, "y")
    other.terminate()
    with pytest.raises(InvalidState, match="is TERMINATED"):
        other.ask("y", request_id="y")
    other.purge()
    with pytest.raises(InstanceNotFound):
        other.ask("y")
    with pytest.raises(InstanceNotFound):
        other.query("y")
    with pytest.raises(ValueError, match="NUL"):
        run.ask("x\x00")
    with pytest.raises(TypeError):
        run.ask(1)


def test_inside_an_orchestrator_it_is_refused(env):
    @durable.orchestrator(name="asking.asks")
    async def asks(ctx, verb):
        return getattr(handle, verb)("address")

    handle = env.start(fulfil.s({"id": "1", "address": "here"}), instance_id="o")
    for verb in ("ask", "query"):
        with pytest.raises(DurableError, match=rf"{verb}\(\) was called inside orchestrator"):
            env.run(asks.s(verb))


# -- rewind, fork, restart, an hour ----------------------------------------------------------------


def test_a_rewind_keeps_answers_and_answers_what_was_open(env):
    def scenario(env: DurableEnv) -> Any:
        broken.add("1")
        run = env.start(ends.s("1"), instance_id="e")
        run.ask("x", request_id="1")
        late(run, "x", None, "2")
        late(run, "x", None, "3")
        env.event(run, "go")
        env.run_until_idle()
        assert run.refresh().runtime_status is RuntimeStatus.FAILED
        with pytest.raises(InvalidState, match="is FAILED"):
            run.ask("x", request_id="2")
        broken.clear()
        run.rewind()
        env.run_until_idle()
        said = [run.ask("x", request_id=id_, timeout=0) for id_ in "12"]
        with pytest.raises(InvalidState, match="is COMPLETED"):
            run.ask("x", request_id="3")
        return said

    env.crash_everywhere(scenario)
    assert scenario(env) == ["first", "second"]


def test_a_fork_answers_for_itself_and_a_restart_knows_nothing(env):
    run = env.start(ends.s("1"), instance_id="e")
    run.ask("x", request_id="1")
    late(run, "x", None, "2")
    fork = run.fork(at=len(run.history()), new_id="f")
    env.event("f", "go")
    env.run_until_idle()
    assert fork.refresh().runtime_status is RuntimeStatus.COMPLETED
    assert fork.ask("x", request_id="2") == "second"
    late(run, "x", None, "2")
    run.terminate()
    run.restart()
    env.run_until_idle()
    late(run, "y", None, "other")
    assert run.ask("x", request_id="1") == "first"
    assert kinds(run)[-2:] == ["RequestReceived", "RequestAnswered"]


def test_answers_are_kept_for_an_hour(env):
    run = env.start(fulfil.s({"id": "1", "address": "here"}), instance_id="o")
    run.ask("change_address", "stop", request_id="r")
    env.advance(minutes=59)
    assert run.ask("change_address", request_id="r") == "stopped"
    env.advance(minutes=2)
    with pytest.raises(InvalidState):
        run.ask("change_address", request_id="r")
    durable.runtime.client.drops_answers_at = 0.0

    def kept() -> list[str]:
        sql = "SELECT instance FROM durable_answers"
        read = durable.runtime.store.database.read
        return [id_ for (id_,) in read(lambda cursor: cursor.execute(sql).fetchall())]

    assert kept() == ["o"]
    other = env.start(fulfil.s({"id": "1", "address": "here"}), instance_id="other")
    other.ask("change_address", "Rome")
    assert kept() == ["other"]


# -- queries ---------------------------------------------------------------------------------------


def test_a_query_sees_the_last_committed_turn_and_changes_nothing(env):
    run = env.start(fulfil.s({"id": "1", "address": "here"}), instance_id="o")
    assert run.query("longer", "!", times=2) == "here!!"
    assert run.query("address") == "here"
    run.suspend()
    before = kinds(run)
    assert run.query("address") == "here"
    assert kinds(run) == before
    with pytest.raises(LookupError, match="has no query 'nothing'; known are 'address', 'longer'"):
        run.query("nothing")
    with pytest.raises(TypeError, match="suffix"):
        run.query("longer")
    later = env.durable.start(fulfil.s({}), start_at=env.now + timedelta(days=1))
    with pytest.raises(AttributeError, match="address"):
        later.query("address")


def test_a_query_needs_the_code_and_gives_what_a_payload_can(env):
    @durable.orchestrator(name="asking.odd")
    async def odd(ctx):
        ctx.state.value = {"pair": (1, 2)}
        await ctx.wait_event("never")

    @odd.query
    def value(state):
        return state.value

    @odd.query
    def unencodable(state):
        return object()

    run = env.start(odd.s())
    assert run.query("value") == {"pair": [1, 2]}
    with pytest.raises(PayloadError):
        run.query("unencodable")
    durable.registry._definitions.pop("asking.odd")
    with pytest.raises(ConfigurationError, match="has no orchestrator 'asking.odd'"):
        run.query("value")


def test_queries_belong_to_versions_and_are_shared_where_one_has_none(env):
    @durable.orchestrator(name="asking.versions", version="1")
    async def first(ctx):
        ctx.state.name = "one"
        await ctx.wait_event("never")

    @first.query
    def which(state):
        return f"first {state.name}"

    old = env.start(first.s())

    @durable.orchestrator(name="asking.versions", version="2")
    async def second(ctx):
        ctx.state.name = "two"
        await ctx.wait_event("never")

    @second.query(name="which")
    def other(state):
        return f"second {state.name}"

    @second.query
    def both_have(state):
        return state.name

    new = env.start(second.s())
    assert (old.query("which"), new.query("which")) == ("first one", "second two")
    assert (old.query("both_have"), new.query("both_have")) == ("one", "two")
    with pytest.raises(ConfigurationError, match="under one name there can be one"):
        second.query(address, name="which")


def test_what_is_no_plain_function_is_no_query():
    async def looks(state):
        pass

    with pytest.raises(TypeError, match="not an `async def`"):
        fulfil.query(looks)
    with pytest.raises(TypeError, match="not str"):
        fulfil.query("looks")


def test_to_declare_a_query_makes_no_task_and_reads_no_settings():
    lazy = Celery("lazy", set_as_current=False)

    @Durable(lazy).orchestrator(name="asking.lazy")
    async def orchestrator(ctx):
        pass

    @orchestrator.query
    def looks(state):
        pass

    assert not lazy.configured
    assert "asking.lazy" not in lazy._tasks
    lazy.finalize()
    assert lazy.durable.registry.newest("asking.lazy").queries == {"looks": looks}
    assert lazy.tasks["asking.lazy"].query(looks, name="more") is looks
    assert set(lazy.durable.registry.newest("asking.lazy").queries) == {"looks", "more"}


# -- the rest --------------------------------------------------------------------------------------


def test_twins_for_event_loops(env):
    run = env.start(fulfil.s({"id": "shipped", "address": "here"}))

    async def main() -> None:
        assert await run.aquery("address") == "here"
        assert await run.aask("change_address", "stop", request_id="r") == "stopped"
        assert await run.aask("change_address", request_id="r", timeout=0) == "stopped"
        with pytest.raises(InvalidState):
            await run.aask("change_address")
        other = durable.get(env.start(slow.s()).id)
        with pytest.raises(TimeoutError):
            await other.aask("y", timeout=timedelta(seconds=1))

    asyncio.run(main())


def test_what_is_shown(env):
    run = env.start(slow.s(), instance_id="s")
    assert current_waits(durable, [run])["s"].startswith("request x, until 20")
    lanes = {(lane.kind, lane.label): lane for lane in timeline_of(run).lanes}
    assert lanes["request", "x"].outcome == "live"
    run.ask("x")
    lane = next(lane for lane in timeline_of(run).lanes if lane.kind == "request")
    assert [segment.kind for segment in lane.segments][:2] == ["waiting", "running"]
    assert timedelta(seconds=20) <= lane.segments[1].end - lane.segments[1].begin
    fresh = env.start(fulfil.s({"id": "1", "address": "here"}))
    assert "waits for a request 'change_address'" in str(fresh.explain())
    assert fresh.explain().advice == "nothing to do: it continues when that has happened"
