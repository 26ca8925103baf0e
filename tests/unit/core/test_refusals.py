"""What an orchestrator cannot do, and what it is told then."""

from __future__ import annotations

import asyncio
import threading

import pytest
from celery.exceptions import WorkerShutdown

from celery_durable.core import loop
from celery_durable.core.guard import refuse_inside_orchestrator, running_orchestrator
from celery_durable.errors import DurableError, ForbiddenOperation, PayloadError

from .harness import echo, fresh, live, raised, started


def attempting(attempt):
    async def orchestrator(ctx):
        await attempt(asyncio.get_running_loop())

    return orchestrator


@pytest.mark.parametrize(
    ("attempt", "operation"),
    [
        (lambda loop: loop.run_in_executor(None, print), "run_in_executor"),
        (lambda loop: asyncio.to_thread(print), "run_in_executor"),
        (lambda loop: asyncio.create_subprocess_exec("true"), "subprocess_exec"),
        (lambda loop: asyncio.create_subprocess_shell("true"), "subprocess_shell"),
        (lambda loop: asyncio.open_connection("127.0.0.1", 9), "create_connection"),
        (lambda loop: asyncio.start_server(print, "127.0.0.1", 0), "create_server"),
        (lambda loop: asyncio.open_unix_connection("/nowhere"), "create_unix_connection"),
        (lambda loop: loop.create_datagram_endpoint(print), "create_datagram_endpoint"),
        (lambda loop: loop.getaddrinfo("localhost", 80), "getaddrinfo"),
        (lambda loop: loop.sock_recv(None, 1), "sock_recv"),
        (lambda loop: loop.add_reader(0, print), "add_reader"),
        (lambda loop: loop.add_signal_handler(2, print), "add_signal_handler"),
        (lambda loop: loop.call_soon_threadsafe(print), "call_soon_threadsafe"),
        (lambda loop: loop.run_until_complete(None), "run_until_complete"),
        (lambda loop: loop.stop(), "stop"),
    ],
)
def test_real_io_threads_and_subprocesses_are_refused_with_the_way_out(attempt, operation):
    error = live(attempting(attempt)).error
    assert isinstance(error, ForbiddenOperation)
    assert isinstance(error, RuntimeError)
    assert error.operation == operation
    assert "put it in an activity" in str(error)


def test_a_refusal_can_be_caught():
    async def orchestrator(ctx):
        try:
            await asyncio.to_thread(print)
        except ForbiddenOperation:
            return await ctx.call(echo.s("by an activity"))

    assert live(orchestrator).value == "by an activity"


class Yielding:
    """An awaitable of some other framework."""

    def __init__(self, what):
        self.what = what

    def __await__(self):
        yield self.what


@pytest.mark.parametrize("what", [42, "trap", object()])
def test_an_awaitable_of_another_framework_is_named_as_foreign(what):
    async def orchestrator(ctx):
        await Yielding(what)

    error = live(orchestrator).error
    assert isinstance(error, ForbiddenOperation)
    assert "does not belong to its replaying event loop" in str(error)


@pytest.fixture
def foreign():
    """A future of an ordinary event loop."""
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


def test_a_future_of_another_loop_is_named_as_foreign(foreign):
    async def orchestrator(ctx):
        await foreign

    assert isinstance(live(orchestrator, check=False).error, ForbiddenOperation)


@pytest.mark.parametrize("composite", ["all", "any"])
def test_a_future_of_another_loop_in_a_composite_does_not_hang(foreign, composite):
    async def orchestrator(ctx):
        await getattr(ctx, composite)([foreign])

    life = live(orchestrator)
    assert not life.is_waiting, "waits for ever for what no event can bring"


def test_yielding_a_future_of_another_loop_from_a_generator_fails(foreign):
    def orchestrator(ctx):
        yield foreign

    assert isinstance(live(orchestrator, check=False).error, ForbiddenOperation)


def test_asyncio_run_inside_an_orchestrator_is_refused():
    async def orchestrator(ctx):
        other = asyncio.sleep(0)
        try:
            asyncio.run(other)
        finally:
            other.close()

    with pytest.raises(RuntimeError, match="running event loop"):
        live(orchestrator).value


def test_store_calls_are_refused_inside_an_orchestrator_and_its_inline_functions():
    def inline():
        refuse_inside_orchestrator("run.wait()")

    async def orchestrator(ctx):
        seen = []
        try:
            refuse_inside_orchestrator("durable.start()")
        except DurableError as error:
            seen.append([str(error).split(":")[0], error.instance_id])
        try:
            await ctx.run(inline)
        except DurableError as error:
            seen.append(str(error).split(" ")[0])
        await ctx.call(echo.s())
        try:
            refuse_inside_orchestrator("after an await")
        except DurableError:
            seen.append("still")
        return seen

    first = ["durable.start() was called inside orchestrator 'order-42'", "order-42"]
    assert live(orchestrator).value == [first, "run.wait()", "still"]
    refuse_inside_orchestrator("outside")


def test_an_operation_of_an_entity_is_told_to_let_its_caller_do_it():
    with (
        running_orchestrator("@Counter@a"),
        pytest.raises(DurableError, match="operation of entity '@Counter@a'") as caught,
    ):
        refuse_inside_orchestrator("durable.start()")
    assert "ctx." not in str(caught.value)


def test_an_async_function_that_no_one_awaited_is_named_where_its_coroutine_is_to_be_kept():
    async def charge():
        pass

    async def orchestrator(ctx):
        await ctx.run(charge_it)

    def charge_it():
        return {"paid": charge()}

    assert "charge() is an `async def` function" in str(live(orchestrator).error)


def test_the_mark_of_a_running_orchestrator_is_per_thread_and_nests():
    with running_orchestrator("outer"):
        with running_orchestrator("inner"):
            with pytest.raises(DurableError, match="'inner'"):
                refuse_inside_orchestrator("x")
        with pytest.raises(DurableError, match="'outer'"):
            refuse_inside_orchestrator("x")
        thread = threading.Thread(target=refuse_inside_orchestrator, args=("x",))
        thread.start()
        thread.join()
    refuse_inside_orchestrator("x")


def test_the_finally_block_of_an_abandoned_orchestrator_is_still_inside_it():
    seen = []

    async def orchestrator(ctx):
        try:
            await ctx.wait_event("never")
        finally:
            try:
                refuse_inside_orchestrator("durable.start()")
            except DurableError:
                seen.append("refused")

    execution = fresh(orchestrator)
    execution.take([started()])
    execution.abandon()
    assert seen == ["refused"]


def test_an_orchestrator_runs_while_the_caller_has_an_event_loop_of_its_own():
    async def orchestrator(ctx):
        await asyncio.sleep(0)
        return await ctx.wait_event("go")

    async def server():
        mine = asyncio.get_running_loop()
        life = live(orchestrator, inputs=[raised("go", 1)])
        assert asyncio.get_running_loop() is mine
        await asyncio.sleep(0)
        return life.value

    assert asyncio.run(server()) == 1


def test_a_process_that_ends_takes_the_turn_back():
    """Not so the code's own ``sys.exit()``, which is a failure like any other."""

    async def orchestrator(ctx):
        await ctx.call(echo.s())
        raise WorkerShutdown(0)

    with pytest.raises(WorkerShutdown):
        live(orchestrator)


def test_an_event_that_cannot_be_decoded_is_met_when_it_arrives_and_not_in_the_users_code():
    async def orchestrator(ctx):
        return await ctx.call(echo.s())

    execution = fresh(orchestrator)
    execution.take([started()])
    broken = raised("x")._replace(payload="{broken")
    with pytest.raises(PayloadError):
        execution.take([broken])
    assert execution.final is None
    execution.abandon()


def test_a_turn_is_no_finalizer_though_the_end_of_a_collection_was_not_heard():
    """Where the stack is nearly full, Python cannot call who listens to the garbage collector."""

    async def orchestrator(ctx):
        return await asyncio.gather(asyncio.create_task(_echoed(ctx)), ctx.call(echo.s(2)))

    async def _echoed(ctx):
        return await ctx.call(echo.s(1))

    loop._note_collection("start", {})
    try:
        assert live(orchestrator).value == [1, 2]
    finally:
        loop._note_collection("stop", {})
