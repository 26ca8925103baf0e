"""An app that is pickled, as worker pools do that spawn their processes, has everything that is
installed into it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.utils.imports import symbol_by_name

from celery_durable import Durable
from celery_durable.worker.backend import DurableBackendMixin
from celery_durable.worker.bootstep import RecoveryStep


class AppOfSomebody(Celery):
    """An app class that does something of its own when an app is made."""

    def on_init(self) -> None:
        self.was_made = True


class AppWithAll(Celery):
    """An app class that installs by itself."""

    def on_init(self) -> None:
        Durable(self)


@pytest.mark.parametrize(
    "backend", [None, "cache+memory://", "file:///tmp", "db+sqlite://", "rpc://"]
)
@pytest.mark.parametrize("cls", [Celery, AppOfSomebody, AppWithAll])
@pytest.mark.parametrize("is_configured", [False, True])
def test_a_copy_has_the_same_installation(
    cls: type[Celery], backend: str | None, is_configured: bool
) -> None:
    app = cls("copied", broker="memory://", backend=backend, set_as_current=False)
    app.conf.update(durable_backend_url="sqlite:///somewhere.db", durable_retention=60)
    if cls is not AppWithAll:
        Durable(app)
    if is_configured:
        app.finalize()
        assert app.backend
    again = pickle.loads(pickle.dumps(app))
    again = pickle.loads(pickle.dumps(again))
    assert again is not app
    assert again.durable.app is again and again.durable is not app.durable
    assert type(again.backend) is type(app.backend)
    assert isinstance(again.backend, DurableBackendMixin)
    steps = {symbol_by_name(step) for step in again.steps["worker"]}
    assert RecoveryStep in steps
    assert again.conf.durable_backend_url == app.conf.durable_backend_url
    assert again.conf.result_backend == app.conf.result_backend == backend
    assert getattr(again, "was_made", False) is (cls is AppOfSomebody)
    again.finalize()
    # what other modules of this run share with every app reaches each as it is finalized
    assert {"celery_durable.canvas"} <= set(again.durable.registry.names()) & set(
        app.durable.registry.names()
    )
    again.close()
    app.close()


MODULE = """
from celery import Celery
from celery_durable import Durable, entity, orchestrator

app = Celery("spawned", broker="memory://", include=["spawned"])
app.conf.update(durable_backend_url="{url}", task_always_eager=True)
durable = Durable(app)

@app.task
def add(x, y):
    return x + y

@durable.orchestrator(name="flow", version="1")
async def old(ctx, x):
    return "old"

@durable.orchestrator(name="flow", version="2")
async def new(ctx, x):
    await ctx.entity(Counter, "a").add(x)
    return await ctx.call(add.s(x, await ctx.call(child.s())))

@orchestrator
async def child(ctx):
    return 40

@durable.entity
class Counter:
    value: int = 0
    def add(self, n):
        self.value += n
"""
CHILD = """
import pickle, sys
app = pickle.load(sys.stdin.buffer)
from celery.app.trace import setup_worker_optimizations
app.loader.init_worker()
setup_worker_optimizations(app, "host")
import spawned
assert spawned.app is not app
spawned.app.finalize()
durable = app.durable
assert set(durable.registry.names()) == set(spawned.durable.registry.names()), durable.registry.names()
assert durable.registry.versions("flow") == ["1", "2"]
for each in (durable, spawned.durable):
    run = each.start(app.tasks["flow"].s(2))
    assert run.refresh().output == 42, (run.runtime_status, run.reason)
assert durable.entity(spawned.Counter, "a").state() == {"value": 4}
print("all is well")
"""


def test_a_spawned_process_runs_what_its_module_declares(
    tmp_path: Path, sqlite_template: Path
) -> None:
    (tmp_path / "store.db").write_bytes(sqlite_template.read_bytes())
    (tmp_path / "spawned.py").write_text(
        MODULE.replace("{url}", f"sqlite:///{tmp_path / 'store.db'}")
    )
    make = "import pickle, sys, spawned; sys.stdout.buffer.write(pickle.dumps(spawned.app))"
    run: Callable[..., Any] = subprocess.run
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
    }
    parent = run(
        [sys.executable, "-c", make],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert parent.returncode == 0, parent.stderr.decode()
    environment["FORKED_BY_MULTIPROCESSING"] = "1"
    child = run(
        [sys.executable, "-c", CHILD],
        input=parent.stdout,
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert child.stdout.decode().strip() == "all is well", child.stderr.decode()
