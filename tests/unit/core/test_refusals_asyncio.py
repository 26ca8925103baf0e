"""Every public name of asyncio, one by one: it works in an orchestrator, or is refused where it is
used.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading

import anyio
import pytest

from celery_durable.errors import ForbiddenOperation
from tests.conftest import wait_until

from .harness import echo, live, never, raised, slow


def _async(function):
    """Let a plain function stand where a coroutine function is wanted."""

    async def use(ctx):
        return function(ctx)

    return use


@pytest.fixture(autouse=True, scope="module")
def little_garbage():
    """Let a collection look at what these tests leave, not at all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def collected():
    """Collect what a refusal leaves, such as a loop that was made and not closed, while warnings of
    it are expected.
    """
    yield
    gc.collect()


# -- what works ------------------------------------------------------------------------------------


async def _barrier(ctx):
    barrier = asyncio.Barrier(2)
    return await asyncio.gather(barrier.wait(), barrier.wait())


async def _bounded(ctx):
    async with asyncio.BoundedSemaphore(1) as slot:
        return slot


async def _condition(ctx):
    condition = asyncio.Condition()
    async with condition:
        condition.notify_all()


async def _event(ctx):
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    return await event.wait()


async def _future(ctx):
    future = asyncio.Future()
    asyncio.get_running_loop().call_later(1, future.set_result, "later")
    return await future


async def _queue(kind):
    queue = kind()
    await queue.put(2)
    await queue.put(1)
    return [await queue.get(), await queue.get()]


async def _lock(ctx):
    async with asyncio.Lock() as lock:
        return lock


async def _semaphore(ctx):
    async with asyncio.Semaphore(1):
        return "in"


async def _task_group(ctx):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ctx.call(echo.s("grouped")))
    return task.result()


async def _timeout(ctx):
    try:
        async with asyncio.timeout(1):
            await ctx.call(never.s())
    except TimeoutError:
        return "late"


async def _timeout_at(ctx):
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 1):
            await ctx.call(never.s())
    except TimeoutError:
        return "late"


async def _no_timeout(ctx):
    async with asyncio.timeout(float("inf")), asyncio.timeout(None):
        return await ctx.call(echo.s("in time"))


async def _as_completed(ctx):
    return [await each for each in asyncio.as_completed([ctx.call(slow.s(n, n)) for n in (2, 1)])]


async def _wait(ctx):
    done, _ = await asyncio.wait(
        [ctx.call(echo.s(1)), ctx.call(never.s())], return_when=asyncio.FIRST_COMPLETED
    )
    return done.pop().result()


async def _stream(ctx):
    reader = asyncio.StreamReader()
    reader.feed_data(b"fed")
    reader.feed_eof()
    return (await reader.read()).decode()


WORKS = {
    "Barrier": _barrier,
    "BoundedSemaphore": _bounded,
    "Condition": _condition,
    "Event": _event,
    "Future": _future,
    "LifoQueue": lambda ctx: _queue(asyncio.LifoQueue),
    "PriorityQueue": lambda ctx: _queue(asyncio.PriorityQueue),
    "Queue": lambda ctx: _queue(asyncio.Queue),
    "Lock": _lock,
    "Semaphore": _semaphore,
    "TaskGroup": _task_group,
    "Timeout": _no_timeout,
    "timeout": _timeout,
    "timeout_at": _timeout_at,
    "as_completed": _as_completed,
    "wait": _wait,
    "FIRST_COMPLETED": _wait,
    "StreamReader": _stream,
    "ALL_COMPLETED": lambda ctx: asyncio.wait(
        [ctx.call(echo.s())], return_when=asyncio.ALL_COMPLETED
    ),
    "FIRST_EXCEPTION": lambda ctx: asyncio.wait(
        [ctx.call(echo.s())], return_when=asyncio.FIRST_EXCEPTION
    ),
    "Task": lambda ctx: asyncio.Task(_semaphore(ctx)),
    "create_task": lambda ctx: asyncio.create_task(_semaphore(ctx)),
    "ensure_future": lambda ctx: asyncio.ensure_future(ctx.call(echo.s(1))),
    "gather": lambda ctx: asyncio.gather(ctx.call(echo.s(1)), ctx.sleep(1)),
    "shield": lambda ctx: asyncio.shield(ctx.call(echo.s(1))),
    "sleep": lambda ctx: asyncio.sleep(5, "slept"),
    "wait_for": lambda ctx: asyncio.wait_for(ctx.call(echo.s(1)), 5),
    "all_tasks": _async(lambda ctx: len(asyncio.all_tasks())),
    "current_task": _async(lambda ctx: asyncio.current_task().get_name()),
    "get_event_loop": _async(lambda ctx: asyncio.get_event_loop() is asyncio.get_running_loop()),
    "get_running_loop": _async(lambda ctx: asyncio.get_running_loop().time()),
    "_get_running_loop": _async(lambda ctx: asyncio._get_running_loop() is not None),
    "Handle": _async(lambda ctx: asyncio.get_running_loop().call_soon(print).cancel()),
    "TimerHandle": _async(lambda ctx: asyncio.get_running_loop().call_later(3, print).cancel()),
    "iscoroutine": _async(lambda ctx: asyncio.iscoroutine(ctx)),
    "isfuture": _async(lambda ctx: asyncio.isfuture(ctx.call(never.s()))),
    "iscoroutinefunction": _async(lambda ctx: True),
    "future_add_to_awaited_by": _async(lambda ctx: None),
    "future_discard_from_awaited_by": _async(lambda ctx: None),
    "capture_call_graph": _async(lambda ctx: None),
    "format_call_graph": _async(lambda ctx: None),
    "print_call_graph": _async(lambda ctx: None),
}


# -- what is refused -------------------------------------------------------------------------------


async def _nothing():
    pass


def _run(ctx):
    main = _nothing()
    try:
        asyncio.run(main)
    finally:
        main.close()


def _runner(ctx):
    main = _nothing()
    try:
        with asyncio.Runner() as runner:
            runner.run(main)
    finally:
        main.close()


def _another_loop(kind):
    def use(ctx):
        main, other = _nothing(), kind()
        try:
            other.run_until_complete(main)
        finally:
            main.close()
            other.close()

    return _async(use)


async def _wrapped(ctx):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        await asyncio.wrap_future(pool.submit(int))


async def _threadsafe(ctx):
    main = _nothing()
    try:
        asyncio.run_coroutine_threadsafe(main, asyncio.get_running_loop())
    finally:
        main.close()


REFUSED = {
    "create_subprocess_exec": lambda ctx: asyncio.create_subprocess_exec("true"),
    "create_subprocess_shell": lambda ctx: asyncio.create_subprocess_shell("true"),
    "open_connection": lambda ctx: asyncio.open_connection("127.0.0.1", 9),
    "open_unix_connection": lambda ctx: asyncio.open_unix_connection("/nowhere"),
    "start_server": lambda ctx: asyncio.start_server(print, "127.0.0.1", 0),
    "start_unix_server": lambda ctx: asyncio.start_unix_server(print, "/nowhere"),
    "to_thread": lambda ctx: asyncio.to_thread(print),
    "run": _async(_run),
    "Runner": _async(_runner),
    "new_event_loop": _another_loop(asyncio.new_event_loop),
    "SelectorEventLoop": _another_loop(asyncio.SelectorEventLoop),
    "EventLoop": _another_loop(getattr(asyncio, "EventLoop", asyncio.SelectorEventLoop)),
    "run_coroutine_threadsafe": _threadsafe,
    "wrap_future": _wrapped,
    "eager_task_factory": _async(lambda ctx: asyncio.get_running_loop().set_task_factory(print)),
    "create_eager_task_factory": _async(
        lambda ctx: asyncio.get_running_loop().set_task_factory(print)
    ),
}

# Classes of errors, of transports and of loops, and settings of a thread: no use to an
# orchestrator, and they ask nothing.
NOTHING_TO_AWAIT = {
    "AbstractChildWatcher",
    "AbstractEventLoop",
    "AbstractEventLoopPolicy",
    "AbstractServer",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "DatagramProtocol",
    "DatagramTransport",
    "DefaultEventLoopPolicy",
    "FastChildWatcher",
    "IncompleteReadError",
    "InvalidStateError",
    "LimitOverrunError",
    "MultiLoopChildWatcher",
    "PidfdChildWatcher",
    "Protocol",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "ReadTransport",
    "SafeChildWatcher",
    "SendfileNotAvailableError",
    "Server",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubprocessProtocol",
    "SubprocessTransport",
    "ThreadedChildWatcher",
    "TimeoutError",
    "Transport",
    "WriteTransport",
    "FrameCallGraphEntry",
    "FutureCallGraph",
    "_enter_task",
    "_leave_task",
    "_register_task",
    "_set_running_loop",
    "_unregister_task",
    "_swap_current_task",
    "_register_eager_task",
    "_unregister_eager_task",
    "get_child_watcher",
    "set_child_watcher",
    "get_event_loop_policy",
    "set_event_loop_policy",
    "set_event_loop",
    "_AbstractEventLoopPolicy",
    "_DefaultEventLoopPolicy",
    "_get_event_loop_policy",
    "_set_event_loop_policy",
}


def test_no_name_of_asyncio_is_overlooked():
    assert set(asyncio.__all__) - WORKS.keys() - REFUSED.keys() - NOTHING_TO_AWAIT == set()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(WORKS.keys() & set(asyncio.__all__) | {"TaskGroup"}))
def test_what_an_orchestrator_may_use_of_asyncio_works(name):
    async def orchestrator(ctx):
        return str(await WORKS[name](ctx)) != ""

    assert live(orchestrator).value is True


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("name", sorted(REFUSED.keys() & set(asyncio.__all__)))
def test_what_an_orchestrator_may_not_use_of_asyncio_is_refused_with_the_way_out(name):
    async def orchestrator(ctx):
        await ctx.call(echo.s())
        await REFUSED[name](ctx)

    life = live(orchestrator)
    assert isinstance(life.error, ForbiddenOperation)
    assert "activity" in str(life.error)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("kind", ["async", "generator"])
@pytest.mark.parametrize("name", ["run", "Runner"])
def test_the_refusal_of_another_loop_names_the_way_out(name, kind):
    def generator(ctx):
        yield ctx.call(echo.s())
        {"run": _run, "Runner": _runner}[name](ctx)

    async def coroutine(ctx):
        await REFUSED[name](ctx)

    assert "asyncio.run" in str(live(generator if kind == "generator" else coroutine).error)


# -- anyio -----------------------------------------------------------------------------------------


async def _in_a_scope(ctx):
    with anyio.move_on_after(1) as scope:
        await ctx.call(never.s())
    return scope.cancelled_caught


async def _in_a_group(ctx):
    seen = []

    async def one(number):
        seen.append(await ctx.call(echo.s(number)))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(one, number)
    return sorted(seen)


async def _of_a_stream(ctx):
    send, receive = anyio.create_memory_object_stream(1)
    async with send, receive:
        await send.send("sent")
        return await receive.receive()


async def _failing_after(ctx):
    try:
        with anyio.fail_after(2):
            await ctx.wait_event("never")
    except TimeoutError:
        return "late"


async def _anyio_event(ctx):
    event = anyio.Event()
    event.set()
    await event.wait()
    async with anyio.Lock(), anyio.Semaphore(1), anyio.CapacityLimiter(1):
        await anyio.sleep(3)
    return anyio.current_time()


@pytest.mark.parametrize(
    "use", [_in_a_scope, _in_a_group, _of_a_stream, _failing_after, _anyio_event]
)
def test_what_needs_no_world_works_in_anyio_too(use):
    assert live(use).value


ANYIO_REFUSED = {
    "to_thread": lambda: anyio.to_thread.run_sync(int),
    "to_process": lambda: anyio.to_process.run_sync(int),
    "run_process": lambda: anyio.run_process(["true"]),
    "open_file": lambda: anyio.open_file(__file__),
    "path": lambda: anyio.Path("/").exists(),
    "run": lambda: _async(lambda _: anyio.run(_nothing))(None),
    "getaddrinfo": lambda: anyio.getaddrinfo("localhost", 9),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("name", ANYIO_REFUSED)
def test_what_reaches_outside_is_refused_at_its_await_in_anyio_too(name):
    before = threading.active_count()

    async def orchestrator(ctx):
        await ctx.call(echo.s())
        await ANYIO_REFUSED[name]()

    life = live(orchestrator)
    with pytest.raises(RuntimeError, match="activity|Already running"):
        life.value  # noqa: B018
    wait_until(lambda: threading.active_count() <= before, what="the threads of anyio to go")


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("how", ["cancel", "deadline", "group"])
def test_a_saga_in_a_scope_of_anyio_is_undone_and_the_scope_is_left(how, parallel):
    async def orchestrator(ctx):
        with anyio.CancelScope(
            deadline=anyio.current_time() + (5 if how == "deadline" else 1_000)
        ) as scope:
            async with ctx.saga(parallel=parallel) as saga:
                await saga.call(echo.s("do"), undo=slow.s(3, "undo"))
                await saga.call(echo.s("do more"), undo=slow.s(3, "undo more"))
                if how == "group":
                    async with anyio.create_task_group() as group:
                        group.start_soon(anyio.sleep, 500)
                        await ctx.wait_event("go")
                        scope.cancel()
                await ctx.wait_event("go")
                scope.cancel()
                await ctx.wait_event("never")
        return scope.cancelled_caught

    life = live(orchestrator, inputs=[raised("go", at=4)])
    assert life.value is True
    assert [command.args for command in life.scheduled][2:] == [(3, "undo more"), (3, "undo")]


def test_a_cancel_of_anyio_may_be_swallowed():
    async def orchestrator(ctx):
        with anyio.move_on_after(1), contextlib.suppress(asyncio.CancelledError):
            await ctx.wait_event("never")
        return "left"

    assert live(orchestrator).value == "left"
