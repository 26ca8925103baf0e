"""An application for real workers: its spans go to a file, its log lines have all fields, it says
who ran what.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

from celery import Celery, signals
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from celery_durable import Durable

DIRECTORY = Path(os.environ["MONITORED_DIRECTORY"])
FIELDS = "%(durable_instance)s|%(durable_orchestration)s|%(durable_turn)s|%(durable_activity)s|%(durable_attempt)s"
LINE = f"%(levelname)s|%(name)s|{FIELDS}|%(message)s"
log = logging.getLogger("monitored")

app = Celery("monitored", broker=os.environ["MONITORED_BROKER"], set_as_current=False)
app.conf.update(
    task_default_queue=os.environ["MONITORED_QUEUE"],
    broker_transport_options={"global_keyprefix": os.environ["MONITORED_QUEUE"] + ":"},
    broker_connection_retry_on_startup=True,
    durable_backend_url=os.environ["MONITORED_STORE"],
    durable_resend_after=1,
    durable_heartbeat_interval=0.5,
    durable_worker_lease=2,
    durable_recovery_interval=0.3,
    durable_cache_size=int(os.environ.get("DURABLE_TEST_CACHE", "500")),
    durable_tracing=True,
    worker_log_format=LINE,
    worker_task_log_format=LINE,
)
durable = Durable(app)


@signals.worker_process_init.connect(weak=False)
def trace_into_file(**_):
    provider = TracerProvider()
    out = (DIRECTORY / f"spans-{os.getpid()}.jsonl").open("a", buffering=1)
    one_line = lambda span: span.to_json(indent=None) + "\n"
    provider.add_span_processor(
        SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=one_line))
    )
    trace.set_tracer_provider(provider)


@app.task(name="step")
def step(number):
    log.warning("in step %d", number)
    return os.getpid()


@app.task(name="deadly")
def deadly():
    try:
        os.close(os.open(DIRECTORY / "died", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "survived"
    os.killpg(os.getpgid(0), signal.SIGKILL)


@app.task(name="fails")
def fails():
    raise ValueError("secret words")


@durable.orchestrator(name="steps")
async def steps(ctx, count):
    log.warning("a turn begins")
    pids = [await ctx.call(step.s(number)) for number in range(count)]
    ctx.logger.warning("all steps are done")
    return len(pids)


@durable.orchestrator(name="risky")
async def risky(ctx):
    first = await ctx.call(step.s(1))
    return [first, await ctx.call(deadly.s())]


@durable.orchestrator(name="mixed")
async def mixed(ctx):
    try:
        await ctx.call(fails.s())
    except ValueError:
        await ctx.sleep(0.05)
    return await ctx.call(step.s(0))


def spans_in(directory):
    """All spans that all processes have exported."""
    lines = [
        line
        for path in sorted(directory.glob("spans-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines if line.endswith("}")]
