"""Sentry, initialised before the application, as its manual has it: what it wraps of Celery is on
the way of every message.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

class Nowhere(Transport):
    def capture_envelope(self, envelope):
        pass

sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Nowhere, traces_sample_rate=1.0, integrations=[CeleryIntegration()])

from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery_durable import Durable

app = Celery("watched", broker="memory://")
app.conf.update(durable_backend_url=f"sqlite:///{sys.argv[1]}")
durable = Durable(app)
traces = []

@app.task(bind=True)
def look(self, n):
    traces.append(str(getattr(self.request, "sentry-trace", None) or (self.request.headers or {}).get("sentry-trace"))[:32])
    return n

@durable.orchestrator
async def flow(ctx):
    return [await ctx.call(look.s(n)) for n in range(3)] + await ctx.all([ctx.call(look.s(n)) for n in range(3, 6)])

durable.migrate()
with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
    with sentry_sdk.start_transaction(name="view") as view:
        run = durable.start(flow.s())
    output = run.wait(timeout=300)
print(json.dumps({"output": output, "traces": traces, "trace": view.trace_id}))
"""


def test_each_activity_is_in_the_trace_of_whoever_started(tmp_path: Path) -> None:
    path = tmp_path / "watched.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "store.db")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["output"] == list(range(6))
    assert seen["traces"] == [seen["trace"]] * 6
