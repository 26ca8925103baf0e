"""The application of the integration tests, for workers and for clients.

Environment variables configure it.

Every activity that matters appends a line to the file ``TESTAPP_RUNS`` when it runs, so that tests
can count. An activity or a turn that is to last as long as a test wants waits for a file in the
directory ``TESTAPP_MARKERS``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import reusable
import sqlalchemy as sa
from celery import Celery, Task, chain, chord, group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from reusable import CardDeclined, OutOfStock, negate, negate_durably

from celery_durable import SKIPPED, Debounce, Durable, Limit, Rate, RetryPolicy, durable_context
from celery_durable.encryption import FernetCodec
from celery_durable.payload_store import PayloadStore

RUNS = Path(os.environ.get("TESTAPP_RUNS", "runs.jsonl"))
MARKERS = Path(os.environ.get("TESTAPP_MARKERS", "."))
QUEUE = os.environ.get("TESTAPP_QUEUE", "testapp")
VARIANT = os.environ.get("TESTAPP_VARIANT", "first")
PATIENCE = 60

app = Celery(
    "testapp",
    broker=os.environ["TESTAPP_BROKER"],
    backend=os.environ.get("TESTAPP_BACKEND") or None,
)
app.conf.update(
    task_default_queue=QUEUE,
    task_always_eager=bool(os.environ.get("TESTAPP_EAGER")),
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options=json.loads(os.environ.get("TESTAPP_BROKER_OPTIONS", "{}")),
    result_backend_transport_options=json.loads(os.environ.get("TESTAPP_BACKEND_OPTIONS", "{}")),
    durable_backend_url=os.environ["TESTAPP_STORE"],
    durable_resend_after=float(os.environ.get("TESTAPP_RESEND_AFTER", "1")),
    durable_heartbeat_interval=0.5,
    durable_worker_lease=2,
    durable_recovery_interval=0.3,
    durable_turn_queue=os.environ.get("TESTAPP_TURN_QUEUE", "{queue}.turns") or None,
    durable_cache_size=int(os.environ.get("DURABLE_TEST_CACHE", "500")),
    durable_turn_timeout=float(os.environ.get("TESTAPP_TURN_TIMEOUT", "30")),
    durable_exception_modules=("reusable",),
)
if keys := os.environ.get("TESTAPP_KEYS"):
    app.conf.durable_codec = FernetCodec(*keys.split(","))
    app.conf.durable_payload_store = PayloadStore(os.environ["TESTAPP_LARGE"], above=2_000)
durable = Durable(app)


# -- notes and markers -----------------------------------------------------------------------------


def note(what, *facts):
    """Append one line to the run log; one write, so that processes do not mix."""
    context = durable_context()
    key = None if context is None else context.idempotency_key
    line = (
        json.dumps([time.time(), what, list(facts), key, threading.get_ident() + os.getpid()])
        + "\n"
    )
    file = os.open(RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def wait_for_marker(name):
    end = time.monotonic() + PATIENCE
    while not (MARKERS / name).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody set the marker {name}")
        time.sleep(0.02)


def is_first_time(name):
    """True once in the world for each name."""
    try:
        os.close(os.open(MARKERS / f"once-{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def block_the_first_time(name):
    is_first = is_first_time(name)
    note("block", name)  # whoever reads this may kill us: from now on it is the second time
    if is_first:
        wait_for_marker(name)
    return name


def die_in(path):
    """Make a method of the engine kill the whole worker when it is called for the first time."""
    module_name, _, qualified = path.partition(":")
    class_name, method_name = qualified.split(".")
    owner = getattr(importlib.import_module(module_name), class_name)
    original = getattr(owner, method_name)

    def dies_once(self, *args, **kwargs):
        if is_first_time(f"died-in-{method_name}"):
            os.killpg(os.getpgid(0), signal.SIGKILL)
        return original(self, *args, **kwargs)

    setattr(owner, method_name, dies_once)


if os.environ.get("TESTAPP_DIES_IN"):
    die_in(os.environ["TESTAPP_DIES_IN"])


# -- activities ------------------------------------------------------------------------------------


@app.task
def add(x, y):
    note("add", x, y)
    return x + y


@app.task
def double(x):
    note("double", x)
    return 2 * x


@app.task
def total(numbers):
    note("total", numbers)
    return sum(numbers)


@app.task
def echo(value):
    return value


@app.task
def factorial(n):
    """Call itself as a function, by its own task."""
    note("factorial", n)
    return n * factorial(n - 1) if n > 1 else 1


@app.task(acks_late=True)
def add_late(x, y):
    note("add_late", x, y)
    return x + y


@app.task(ignore_result=True)
def add_ignored(x, y):
    note("add_ignored", x, y)
    return x + y


@app.task(bind=True)
def describe(self):
    """What an activity sees of its own message."""
    delivery = self.request.delivery_info
    return {
        "id": self.request.id,
        "root_id": self.request.root_id,
        "parent_id": self.request.parent_id,
        "routing_key": delivery.get("routing_key"),
        "priority": delivery.get("priority"),
        "color": (self.request.headers or {}).get("color"),
    }


class NotingTask(Task):
    def __call__(self, *args, **kwargs):
        note("before", self.name)
        return super().__call__(*args, **kwargs)


@app.task(base=NotingTask)
def with_custom_base(x):
    return x + 1


@app.task
def decline(message="no money", code=7):
    raise CardDeclined(message, code=code)


@app.task
def fail_with(name, message):
    raise {"ValueError": ValueError, "KeyError": KeyError, "OutOfStock": OutOfStock}[name](message)


@app.task(bind=True)
def fail_locally(self):
    class Hidden(Exception):
        pass

    raise Hidden("nobody can import me")


@app.task
def flaky(key, times):
    """Fail this many times, then succeed."""
    for number in range(times):
        if is_first_time(f"{key}-{number}"):
            note("flaky", key)
            raise OutOfStock(key)
    note("flaky", key)
    return key


@app.task(
    bind=True,
    autoretry_for=(OutOfStock,),
    retry_backoff=False,
    default_retry_delay=0,
    max_retries=5,
)
def flaky_by_celery(self, key, times):
    note("flaky_by_celery", key)
    for number in range(times):
        if is_first_time(f"{key}-{number}"):
            raise OutOfStock(key)
    return key


@app.task(bind=True, autoretry_for=(OutOfStock,), default_retry_delay=0, max_retries=2)
def never_in_stock(self, key):
    note("never_in_stock", key)
    raise OutOfStock(key)


@app.task(bind=True)
def retry_itself(self, key):
    note("retry_itself", key)
    if self.request.retries < 2:
        raise self.retry(countdown=0, max_retries=3)
    return self.request.retries


@app.task(bind=True)
def replace_itself(self, x):
    note("replace_itself", x)
    raise self.replace(double.s(x))


@app.task
def ignore():
    raise Ignore


@app.task
def reject():
    raise Reject("broken", requeue=False)


@app.task
def reject_once(key):
    note("reject_once", key)
    if is_first_time(key):
        raise Reject("later", requeue=True)
    return key


@app.task
def unserialisable():
    return {"inside": [1, object()]}


@app.task
def sleep_long():
    note("sleep_long")
    time.sleep(PATIENCE)


@app.task
def sleep_and_clean_up():
    try:
        time.sleep(PATIENCE)
    except SoftTimeLimitExceeded:
        return "cleaned up"


@app.task
def busy(n):
    """Take a moment, so that neighbours overlap."""
    note("busy", n)
    time.sleep(0.15)
    note("idle", n)
    return n


@app.task
def hold(key):
    """Run until the test sets the marker."""
    note("hold", key)
    wait_for_marker(key)
    return key


@app.task
def defer_and_hold(key):
    """Give a token away, and run until the test sets the marker."""
    note("deferred", key, durable_context().defer())
    wait_for_marker(key)
    return "dropped"


@app.task
def hold_with_progress(key):
    """Run until the test sets the marker; a next attempt goes on where the last one said it was."""
    context = durable_context()
    note("progress", key, context.details)
    if context.details is None:
        context.heartbeat({"done": 3})
        note("said", key)
    wait_for_marker(key)
    return context.details


@app.task
def beat_often(times):
    for number in range(times):
        durable_context().heartbeat({"at": number})
        time.sleep(0.2)
    return "done"


@app.task
def watch_for_cancel(key):
    note("watching", key)
    end = time.monotonic() + PATIENCE
    while not durable_context().cancelled and time.monotonic() < end:
        time.sleep(0.05)
    note("saw cancel", key, durable_context().cancelled)


@app.task(bind=True, durable=True)
async def waits_async(self, key, seconds):
    note("waits", key)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled at its await", key)
        raise
    context = durable_context()
    loop = id(asyncio.get_running_loop())
    return [context.instance_id == self.request.parent_id, os.getpid(), loop]


@app.task
def context_fields():
    context = durable_context()
    return {
        "instance_id": context.instance_id,
        "attempt": context.attempt,
        "idempotency_key": context.idempotency_key,
        "deadline": None if context.deadline is None else context.deadline.isoformat(),
        "cancelled": context.cancelled,
    }


@app.task
def has_context():
    return durable_context() is not None


@app.task
def kill_own_process(key):
    note("kill_own_process", key)
    if is_first_time(key):
        os.kill(os.getpid(), signal.SIGKILL)
    return key


@app.task(at_most_once=True)
def hold_once(key):
    """Run until the test sets the marker, and never twice."""
    note("hold_once", key)
    wait_for_marker(key)
    return key


@app.task(at_most_once=True, acks_late=True)
def kill_own_process_once(key):
    note("kill_own_process_once", key)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(at_most_once=True, bind=True)
def retry_once(self, key):
    """Ask Celery for two more runs."""
    note("retry_once", key)
    if self.request.retries < 2:
        raise self.retry(countdown=0, max_retries=3)
    return self.request.retries


@app.task(bind=True)
@durable.transactional
def deposit(self, session, key):
    """Write a row, then run until the test sets the marker."""
    session.execute(sa.text("INSERT INTO deposits (name) VALUES (:key)"), {"key": key})
    note("deposit", key)
    wait_for_marker(key)
    return session.scalar(sa.text("SELECT COUNT(*) FROM deposits WHERE name = :key"), {"key": key})


@app.task
def callback(*args, **kwargs):
    note("callback", *args)


@app.task
def errback(*args, **kwargs):
    note("errback")


# -- orchestrators: calls --------------------------------------------------------------------------


def describe_error(error):
    return {
        "raised": type(error).__name__,
        "module": type(error).__module__,
        "message": str(error),
        "facts": {
            k: v for k, v in getattr(error, "facts", {}).items() if isinstance(v, (str, int))
        },
    }


@durable.orchestrator
async def rewindable(ctx, key, hold=False):
    """Fail until it is rewound."""
    await ctx.call(add.s(40, 2))
    first = await ctx.call(flaky.s(key, 1))
    if hold:
        await ctx.call(globals()["hold"].s(key))
    return [first, key]


@durable.orchestrator
async def undoable(ctx, key):
    """Fail until it is rewound; what was done before is undone."""
    async with ctx.saga() as saga:
        await saga.call(add.s(90, 9), undo=double.s(99))
        await saga.call(flaky.s(key, 1))


@durable.orchestrator
async def trip(ctx, key):
    """Undo two things, the second one slowly."""
    async with ctx.saga() as saga:
        await saga.call(add.s(70, 7), undo=double.s(77))
        await saga.call(add.s(80, 8), undo=hold.s(key))
        await saga.call(fail_with.s("OutOfStock", key))


@durable.orchestrator
async def attempt(ctx, task, args=(), kwargs=None, options=None, call=None, retry=None):
    """Call one activity by name and report what came of it."""
    signature = app.signature(task, args=args, kwargs=kwargs or {}, **(options or {}))
    policy = None if retry is None else RetryPolicy(**retry)
    try:
        return {"returned": await ctx.call(signature, retry=policy, **(call or {}))}
    except Exception as error:
        return describe_error(error)


@durable.orchestrator
async def poison(ctx, key, how):
    """Destroy the process, or never come to an end, in the turn after an activity.

    Until that is mended.
    """
    found = await ctx.call(add.s(len(key), 1))
    if not (MARKERS / f"{key}-mended").exists():
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "loop":
            while True:
                pass
    return found


@durable.orchestrator
async def call_by_object(ctx, x):
    return await ctx.call(add.s(x, 1))


@durable.orchestrator
async def pay(ctx):
    try:
        await ctx.call(decline.s("no money", code=7))
    except CardDeclined as error:
        return [str(error), error.code]


@durable.orchestrator
async def fail_unhandled(ctx, message="no money"):
    await ctx.call(decline.s(message, code=9))


@durable.orchestrator
async def suspend_when_exhausted(ctx, key):
    return await ctx.call(
        flaky.s(key, 2), retry=RetryPolicy(first_interval=0, max_attempts=2), on_exhausted="suspend"
    )


@durable.orchestrator
def in_generator(ctx, x):
    first = yield ctx.call(add.s(x, 1))
    both = yield ctx.all([ctx.call(add.s(first, 1)), ctx.call(add.s(first, 2))])
    winner = yield ctx.any([ctx.call(echo.s("won"))])
    return [first, both, winner]


@durable.orchestrator
def at_once(ctx, x):
    return x + 1


# -- orchestrators: limits and retention -----------------------------------------------------------


@durable.orchestrator(limit=[Limit(2, key="tenant"), Limit(3), Rate(50, per=0.5)])
async def limited(ctx, tenant, number):
    await ctx.call(add.s(number, 0))
    await ctx.sleep(0.1)
    return await ctx.call(add.s(number, 1))


@durable.orchestrator
async def limited_family(ctx, count):
    return sorted(
        await ctx.all(
            [ctx.call(limited.s("family", n).set(task_id=f"child-{n}")) for n in range(count)]
        )
    )


@durable.orchestrator
async def busy_with_places(ctx, size, most):
    """Run many, of which at most ``most`` run at a time, over all instances and workers."""
    return await ctx.map(busy, range(size), limit=Limit(most, name="busy"))


@durable.orchestrator
async def one_hold(ctx, key, queue=None):
    return await ctx.call(hold.s(key).set(queue=queue or QUEUE))


@app.task(durable_limit=Limit(1, name="one at a time"))
def defer_in_turn(key):
    note("in turn", key, durable_context().defer())


@durable.orchestrator
async def in_turn(ctx, key):
    return await ctx.call(defer_in_turn.s(key))


@durable.orchestrator
async def first_of(ctx, keys):
    """Take the first of those that run until they are told to stop, and one that is done."""
    found = await ctx.map(until_told, ["done", *keys], stop_when=1)
    return [None if each is SKIPPED else each for each in found]


@app.task
def until_told(key):
    note("until told", key)
    if key == "done":
        wait_for_marker(key)
        return key
    end = time.monotonic() + PATIENCE
    while not durable_context().cancelled and time.monotonic() < end:
        time.sleep(0.02)
    note("told", key, durable_context().cancelled)
    return key


@durable.orchestrator(name="testapp.versioned", version="1", upgrade=True)
async def versioned(ctx, again=False):
    if again:
        await ctx.wait_event("again")
        ctx.continue_as_new()
    return ctx.version


@durable.orchestrator(name="testapp.versioned", version="2", upgrade=True)
async def versioned_2(ctx, again=False):
    return await versioned.run(ctx, again)


@durable.orchestrator
async def calls_versioned(ctx, count):
    return await ctx.all([ctx.call(versioned.s()) for _ in range(count)])


@durable.orchestrator(debounce=Debounce(1, key="document"))
async def debounced(ctx, document, text):
    return text


@durable.orchestrator(retention=0)
async def forgotten(ctx):
    return await ctx.call(add.s(1, 1))


# -- orchestrators: composition --------------------------------------------------------------------


@durable.orchestrator
async def canvas(ctx):
    return {
        "group": await ctx.call(group(add.s(n, 1) for n in range(3))),
        "empty group": await ctx.call(group()),
        "chain": await ctx.call(chain(add.s(1, 2), double.s(), add.s(10))),
        "chord": await ctx.call(chord([double.s(n) for n in range(4)], total.s())),
    }


@app.task
def tiny(n):
    return 1


@app.task
def brief(n):
    note("brief", n)
    time.sleep(0.05)
    return 1


@app.task(rate_limit="4/s")
def rated(n):
    return 1


@durable.orchestrator
async def spread(ctx, name, size):
    """Count what as many activities of one kind return."""
    kinds = {"tiny": tiny, "brief": brief, "rated": rated}
    return sum(await asyncio.gather(*(ctx.call(kinds[name].s(n)) for n in range(size))))


@durable.orchestrator
async def nap(ctx, seconds):
    await ctx.sleep(seconds)
    return "awake"


@durable.orchestrator
async def sum_of_doubles(ctx, size):
    return sum(await asyncio.gather(*(ctx.call(double.s(n)) for n in range(size))))


@durable.orchestrator
async def map_busy(ctx, size, concurrency=None):
    return await ctx.map(busy, range(size), concurrency=concurrency)


@durable.orchestrator
async def map_with_failures(ctx, tolerate):
    signatures = ["ValueError", "none", "KeyError", "none"]
    outcomes = await ctx.map(fail_or_return, signatures, tolerate=tolerate)
    return [type(one).__name__ if isinstance(one, Exception) else one for one in outcomes]


@app.task
def fail_or_return(name):
    if name == "none":
        return name
    raise {"ValueError": ValueError, "KeyError": KeyError}[name](name)


@durable.orchestrator
async def with_asyncio(ctx):
    """The standard library's own composition, all of it in one orchestration."""
    results = {}
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(two_in_a_row(ctx, 1))
        second = tasks.create_task(two_in_a_row(ctx, 10))
    results["task group"] = [first.result(), second.result()]
    done, pending = await asyncio.wait([ctx.call(add.s(1, 1)), ctx.call(add.s(2, 2))])
    results["wait"] = [sorted(one.result() for one in done), len(pending)]
    results["as completed"] = sorted(
        [await one for one in asyncio.as_completed([ctx.call(echo.s("a")), ctx.call(echo.s("b"))])]
    )
    try:
        await asyncio.wait_for(ctx.wait_event("never"), 0.2)
    except TimeoutError:
        results["wait for"] = "timed out"
    await asyncio.sleep(0.1)
    return results


async def two_in_a_row(ctx, x):
    return await ctx.call(add.s(await ctx.call(add.s(x, 1)), 1))


@durable.orchestrator
async def race(ctx, key):
    winner = await ctx.any([ctx.call(watch_for_cancel.s(key)), ctx.wait_event("go")])
    return winner


@durable.orchestrator
async def parent(ctx, x, child_id=None):
    signature = child.s(x)
    if child_id is not None:
        signature.set(task_id=child_id)
    return {"child": await ctx.call(signature)}


@durable.orchestrator
async def child(ctx, x):
    return {"value": await ctx.call(double.s(x)), "parent_id": ctx.parent_id}


@durable.orchestrator
async def parent_of_failing(ctx):
    try:
        await ctx.call(fail_unhandled.s("from the child"))
    except CardDeclined as error:
        return [str(error), error.code]


@durable.orchestrator
async def try_child(ctx, child_id):
    try:
        return await ctx.call(wait_for_go.s().set(task_id=child_id))
    except Exception as error:
        return describe_error(error)


@durable.orchestrator
async def wait_for_go(ctx, *_):
    return await ctx.wait_event("go")


# -- orchestrators: time, events, state ------------------------------------------------------------


@durable.orchestrator
async def sleep_for(ctx, seconds):
    before = ctx.now()
    await ctx.sleep(seconds)
    await ctx.sleep_until(ctx.now() + timedelta(seconds=seconds))
    await asyncio.sleep(seconds)
    return (ctx.now() - before).total_seconds()


@durable.orchestrator
async def approval(ctx, limit):
    try:
        async with asyncio.timeout(limit):
            return await ctx.wait_event("approved")
    except TimeoutError:
        return "too late"


@durable.orchestrator
async def collect(ctx, count):
    return [await ctx.wait_event("item") for _ in range(count)]


@durable.orchestrator
async def count_down(ctx, left, seen=()):
    seen = [*seen, await ctx.wait_event("item")]
    if left > 1:
        ctx.continue_as_new(left - 1, seen)
    return seen


@durable.orchestrator
async def with_status(ctx):
    ctx.set_status({"phase": 1})
    await ctx.wait_event("go")
    ctx.set_status("last but one")
    ctx.set_status(["phase", 2])
    await ctx.wait_event("go")
    return "over"


@durable.orchestrator
async def facts(ctx, x):
    drawn = [str(ctx.uuid4()), ctx.random.random(), ctx.now().isoformat()]
    inline = await ctx.run(lambda: x + 1)
    await ctx.call(echo.s(x))
    return {
        "instance_id": ctx.instance_id,
        "name": ctx.name,
        "version": ctx.version,
        "parent_id": ctx.parent_id,
        "drawn": drawn,
        "inline": inline,
    }


@durable.orchestrator
async def signal_other(ctx, other):
    await ctx.signal_event(other, "go", "from " + ctx.instance_id)
    return "sent"


@durable.orchestrator
async def cooperative(ctx, key):
    """Clean up when canceled."""
    try:
        await ctx.call(watch_for_cancel.s(key))
    except asyncio.CancelledError:
        await ctx.call(add.s(0, 0))
        raise


@durable.orchestrator
async def unstoppable(ctx):
    try:
        await ctx.wait_event("never")
    except asyncio.CancelledError:
        return "went on"


@durable.orchestrator
async def triple(ctx, x):
    return await ctx.call(add.s(x, 2 * x))


@durable.orchestrator
async def sum_up(ctx, numbers):
    return await ctx.call(total.s(numbers))


@durable.orchestrator(queue=f"{QUEUE}-other")
async def elsewhere(ctx):
    return await ctx.call(describe.s())


# -- orchestrators: recovery -----------------------------------------------------------------------


@durable.orchestrator
async def pipeline(ctx, key):
    """Some before, one that a test can stop at, some in parallel, one after."""
    first = await ctx.call(add.s(1, 1))
    await ctx.call(hold.s(key))
    doubled = await asyncio.gather(*(ctx.call(double.s(n)) for n in range(5)))
    return await ctx.call(add.s(first, sum(doubled)))


@durable.orchestrator
async def by_token(ctx, key):
    return await ctx.call(defer_and_hold.s(key))


@durable.orchestrator
async def block_in_turn(ctx, key):
    """Block in the first turn and in the one after an activity, each the first time only."""
    await ctx.run(block_the_first_time, f"{key}-first")
    x = await ctx.call(add.s(1, 1), retry=RetryPolicy(first_interval=0, max_attempts=2))
    await ctx.run(block_the_first_time, f"{key}-second")
    return await ctx.call(add.s(x, 1))


@durable.orchestrator
async def parallel_holds(ctx, keys):
    return await asyncio.gather(*(ctx.call(hold.s(key)) for key in keys))


@durable.orchestrator
async def survive_lost_process(ctx, key):
    return await ctx.call(
        kill_own_process.s(key), retry=RetryPolicy(first_interval=0, max_attempts=2)
    )


@durable.orchestrator
async def with_progress(ctx, key):
    return await ctx.call(hold_with_progress.s(key))


@durable.orchestrator
async def mixed(ctx, size):
    """A bit of everything, for every pool."""
    doubled = await ctx.map(double, range(size), concurrency=3)
    await ctx.sleep(0.2)
    below = await ctx.call(child.s(4))
    try:
        await ctx.call(decline.s())
        declined = False
    except CardDeclined:
        declined = True
    retried = await ctx.call(
        flaky.s(ctx.instance_id, 1), retry=RetryPolicy(first_interval=0.1, max_attempts=2)
    )
    event = await ctx.wait_event("go")
    return [sum(doubled), below["value"], declined, retried == ctx.instance_id, event]


# -- entities --------------------------------------------------------------------------------------


@durable.entity
class Ledger:
    value: int = 0

    def get(self):
        return self.value

    def put(self, value):
        self.value = value

    def add(self, n):
        self.value += n
        return self.value

    def decline(self):
        self.value += 1000
        raise CardDeclined("no money", code=7)


@durable.orchestrator
async def count_under_lock(ctx, key, times):
    """What is read and then written is safe only if nobody comes between."""
    ledger = ctx.entity(Ledger, key)
    for _ in range(times):
        async with ctx.lock(ledger):
            value = await ledger.get()
            await ledger.put(await ctx.call(add.s(value, 1)))
    return ctx.instance_id


@durable.orchestrator
async def hold_under_lock(ctx, key):
    async with ctx.lock(ctx.entity(Ledger, key)):
        return await ctx.call(hold.s(key))


@durable.orchestrator
async def ask_ledger(ctx, key):
    try:
        await ctx.entity(Ledger, key).decline()
    except CardDeclined as error:
        return [error.code, await ctx.entity("Ledger", key).add(1)]


if VARIANT == "changed":

    @durable.orchestrator
    async def changing(ctx):
        await ctx.call(double.s(1))
        await ctx.wait_event("go")
        return await ctx.call(add.s(1, 1))

elif VARIANT != "without":

    @durable.orchestrator
    async def changing(ctx):
        await ctx.call(add.s(1, 1))
        await ctx.wait_event("go")
        return await ctx.call(add.s(2, 2))


__all__ = ["app", "durable", "negate", "negate_durably", "reusable"]
