"""An application whose orchestrations carry a tenant, a trace and a locale."""

from __future__ import annotations

import contextlib
import contextvars

from celery import Celery, Task, signals

from celery_durable import Durable, RetryPolicy, durable_context

app = Celery("travelling", broker="memory://", set_as_current=False)
app.conf.durable_propagate = ["tenant", "trace"]
durable = Durable(app)

locale = contextvars.ContextVar("locale", default=None)
#: The tenant of this process now, as a hook of a package knows it.
here = {"tenant": None}
seen = []


class Locale:
    key = "locale"

    def __init__(self):
        self.broken = self.swallows = False

    def capture(self):
        return locale.get()

    @contextlib.contextmanager
    def restore(self, value):
        if self.broken:
            raise RuntimeError("no such locale")
        token = locale.set(value)
        try:
            yield
        except Exception:
            if not self.swallows:
                raise
        finally:
            locale.reset(token)


locales = Locale()
durable.propagate(locales)


def add_tenant(sender=None, headers=None, **_):
    if here["tenant"] is not None and str(sender).startswith(
        ("tests.propagation", "celery_durable.")
    ):
        headers["tenant"] = here["tenant"]


def enter_tenant(task=None, **_):
    if task.name.startswith("tests.propagation"):
        headers = task.request.headers or {}
        seen.append((task.name.rpartition(".")[2], headers.get("tenant")))


@contextlib.contextmanager
def hooks():
    """As those of a package; all applications of the process meet them."""
    signals.before_task_publish.connect(add_tenant)
    signals.task_prerun.connect(enter_tenant)
    try:
        yield
    finally:
        signals.before_task_publish.disconnect(add_tenant)
        signals.task_prerun.disconnect(enter_tenant)


@app.task
def look(what):
    context = durable_context()
    return [what, locale.get(), dict(context.context)]


@app.task
def fail_once(what):
    if durable_context().attempt == 1:
        raise KeyError(what)
    return look(what)


@durable.orchestrator
async def child(ctx, what):
    return [locale.get(), await ctx.call(look.s(what))]


@durable.entity(name="tests.propagation.Place")
class Place:
    seen: list = []

    def note(self, what):
        self.seen = [*self.seen, [what, locale.get()]]
        return self.seen

    def pass_on(self, key):
        durable_entity_signal(key)


def durable_entity_signal(key):
    from celery_durable.core.entity.messages import current_operation
    from celery_durable.core.names import parts_of_id

    own = current_operation()
    name, _ = parts_of_id(own.entity_id)
    own.signal(f"@{name}@{key}", {"op": "note", "args": ["passed on"]})


@durable.orchestrator
async def visits(ctx):
    place = ctx.entity(Place, "a")
    first = await place.note("called")
    await place.signal.note("signalled")
    async with ctx.lock(place):
        await place.note("locked")
    await place.pass_on("b")
    return first


@app.task
def fail():
    raise KeyError("x")


@durable.orchestrator
async def fails(ctx):
    return await ctx.call(fail.s())


@durable.orchestrator
async def calls_child(ctx):
    return await ctx.call(child.s("below").set(headers={"tenant": "kid's"}))


class Adding(Task):
    abstract = True

    def apply_async(self, args=None, kwargs=None, **options):
        headers = {**(options.pop("headers", None) or {}), "tenant": "by the class"}
        return super().apply_async(args, kwargs, headers=headers, **options)


@durable.orchestrator(base=Adding)
async def own_class(ctx):
    await ctx.wait_event("go")


@durable.orchestrator
async def parent(ctx):
    first = [locale.get(), dict(ctx.context)]
    called = await ctx.call(look.s("called"))
    retried = await ctx.call(fail_once.s("again"), retry=RetryPolicy(first_interval=60))
    own = await ctx.call(look.s("own").set(headers={"tenant": "other"}))
    below = await ctx.call(child.s("below"))
    await ctx.sleep(60)
    return [first, called, retried, own, below, locale.get()]


@parent.query
def tongue(state):
    return locale.get()


@durable.orchestrator
async def waits(ctx, rounds=1):
    await ctx.wait_event("go")
    found = [locale.get(), dict(ctx.context)]
    if rounds:
        ctx.continue_as_new(rounds - 1)
    return found


@app.task
def starts():
    return durable.start(waits.s(0), instance_id="by a task").id
