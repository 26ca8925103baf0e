"""The demo: two orders are fulfilled, and the worker is killed half-way.

The first part is what an application looks like. The rest starts workers, kills one, and checks
from the history and from what the activities noted themselves that everything happened as often as
it should. Workers import this module too; they find the settings of their run in an environment
variable.
"""

# mypy: allow-untyped-decorators
# (Celery has no types.)

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from celery import Celery

from . import Durable, Orchestration, OrchestrationContext, RetryPolicy, durable_context
from .demo_places import DemoFailed, configure, own_store, reached, remove_queue, settings_of_run
from .demo_report import (
    FIRST,
    KILLED,
    ORDERS,
    SECOND,
    Attempt,
    checks_of,
    print_checks,
    print_table,
    print_timeline,
)
from .errors import DurableError

__all__ = ["app", "durable", "fulfil_order", "run_demo"]

# -- the application -------------------------------------------------------------------------------

app = Celery("demo", set_as_current=False)
durable: Durable = Durable(app)


class BankIsDown(ConnectionError):
    """The bank could not be reached."""


class OrderDeclined(Exception):
    """A person said no."""


@app.task
def reserve(order_id: str, item: str) -> str:
    """Put an item aside."""
    note("reserve", order_id, item)
    return f"{item} from shelf {len(item)}"


@app.task
def charge(order_id: str, amount: int) -> str:
    """Charge the customer.

    The bank fails twice for each order, and then takes its time for the first.
    """
    note("charge", order_id, amount)
    context = durable_context()
    assert context is not None
    if context.attempt <= 2:
        raise BankIsDown("the bank does not answer")
    if order_id == FIRST:
        time.sleep(1)
    # a real bank is given the key, and so never charges twice
    return f"receipt-{context.idempotency_key[-6:]}"


@app.task
def ship(order_id: str) -> str:
    """Hand the parcel over."""
    note("ship", order_id)
    return f"parcel-of-{order_id}"


@app.task
def release(order_id: str, item: str) -> None:
    """Put an item back; harmless if it was never put aside."""
    note("release", order_id, item)


@app.task
def refund(order_id: str) -> None:
    """Give the money back; harmless if none was taken."""
    note("refund", order_id)


STUBBORN = RetryPolicy(first_interval=0.2, max_attempts=5)


@durable.orchestrator
async def fulfil_order(ctx: OrchestrationContext, order: dict[str, Any]) -> dict[str, Any]:
    """Reserve, charge, wait for an approval, ship; or take everything back."""
    undo = []
    try:
        undo += [release.si(order["id"], item) for item in order["items"]]
        await asyncio.gather(*(ctx.call(reserve.si(order["id"], item)) for item in order["items"]))

        undo += [refund.si(order["id"])]
        receipt = await ctx.call(charge.si(order["id"], order["total"]), retry=STUBBORN)

        ctx.set_status("waiting for approval")
        async with asyncio.timeout(timedelta(days=3).total_seconds()):
            answer = await ctx.wait_event("approval")
        if not answer["approved"]:
            raise OrderDeclined(f"{answer['by']} said no")

        parcel = await ctx.call(ship.si(order["id"]), retry=STUBBORN)
    except (Exception, asyncio.CancelledError):
        for compensation in reversed(undo):
            await ctx.call(compensation, retry=STUBBORN)
        raise
    return {"parcel": parcel, "receipt": receipt, "approved_by": answer["by"]}


# -- the run ---------------------------------------------------------------------------------------

VARIABLE = "CELERY_DURABLE_DEMO"
PATIENCE = 40.0


def note(activity: str, order_id: str, *details: object) -> None:
    """Append a line to the run's journal: the activity begins, in this process, now."""
    context = durable_context()
    attempt = context.attempt if context is not None else 0
    line = json.dumps([order_id, " ".join(map(str, (activity, *details))), attempt])
    with open(app.conf.demo_journal, "a") as journal:
        journal.write(f"{line}\n")


if VARIABLE in os.environ:
    configure(app, json.loads(os.environ[VARIABLE]))


def run_demo(
    broker: str | None = None, store: str | None = None, backend: str | None = None
) -> int:
    """Run the demo and return its exit code: 0 only if everything was as it should be.

    Args:
        broker: a Celery broker; None for the embedded one.
        store: an SQLAlchemy URL; None for an SQLite file of the demo's own.
        backend: a Celery result backend; None for none.
    """

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupted)
    try:
        with _prepared(broker, store, backend) as show:
            return show.run()
    except KeyboardInterrupt:
        print("\nInterrupted; the worker is stopped and what it used is removed.")
        return 130
    except (DemoFailed, DurableError, OSError, ImportError, sa.exc.SQLAlchemyError) as error:
        print(f"\nThe demo failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Show:
    """What is shown, in order: two orders, three tables, and the checks."""

    def __init__(self, directory: Path, settings: dict[str, Any], places: str) -> None:
        self.journal = Path(settings["demo_journal"])
        self._directory = directory
        self._settings = settings
        self._places = places
        self._began = time.monotonic()
        self._worker: subprocess.Popen[bytes] | None = None
        self._workers = 0
        self._killed_at = 0.0

    def run(self) -> int:
        """Play both orders and show what became of them; return 0 if all checks hold."""
        print(f"Two orders, one worker that does not survive. {self._places}\n")
        self.start_worker()
        first, receipt = self._first_order()
        second, refusal = self._second_order()
        self.dismiss_worker()
        print_timeline(first, self._killed_at)
        ran = self._ran()
        print_table(first, ran)
        print_table(second, ran)
        is_good = print_checks(
            checks_of(first, second, ran, receipt, is_declined=isinstance(refusal, OrderDeclined))
        )
        took = time.monotonic() - self._began
        print(
            f"\n{'Everything was as it should be' if is_good else 'SOMETHING WENT WRONG'}, in"
            f" {took:.1f} s."
        )
        if not is_good:
            print(self._worker_log(), file=sys.stderr)
        return 0 if is_good else 1

    # -- the orders --------------------------------------------------------------------------------

    def _first_order(self) -> tuple[Orchestration, Any]:
        run = durable.start(fulfil_order.s(ORDERS[FIRST]), instance_id=FIRST)
        self.report(f"{FIRST} is started: {', '.join(ORDERS[FIRST]['items'])}")
        self.wait(lambda: self._ran()[KILLED], "the third attempt to charge")
        self.report("the bank failed twice; now it charges, slowly ...")
        self.kill_worker()
        self.start_worker()
        self.wait(
            lambda: run.refresh().custom_status == "waiting for approval",
            "the request for an approval",
        )
        self.report(
            f"{FIRST} was charged after all, and waits for an approval, for up to three days"
        )
        run.raise_event("approval", {"approved": True, "by": "ada"})
        self.report("ada approves")
        output = self.end(run)
        self.report(f"{FIRST} is {run.runtime_status}: {output}")
        return run, output

    def _second_order(self) -> tuple[Orchestration, Any]:
        run = durable.start(fulfil_order.s(ORDERS[SECOND]), instance_id=SECOND)
        self.report(f"{SECOND} is started: {', '.join(ORDERS[SECOND]['items'])}")
        self.wait(
            lambda: run.refresh().custom_status == "waiting for approval",
            "the request for an approval",
        )
        run.raise_event("approval", {"approved": False, "by": "bob"})
        self.report("bob declines, so everything is to be taken back")
        outcome = self.end(run)
        self.report(f"{SECOND} is {run.runtime_status}: {type(outcome).__name__}: {outcome}")
        return run, outcome

    def end(self, run: Orchestration) -> Any:
        """Wait for the end of an orchestration; return its output or its failure."""
        self.wait(lambda: run.refresh().runtime_status.is_terminal, f"the end of {run.id}")
        return run.get(timeout=1, propagate=False)

    # -- the worker --------------------------------------------------------------------------------

    def start_worker(self) -> None:
        """Start an ordinary Celery worker, in a process group of its own."""
        self._workers += 1
        name, queue = f"demo-{self._workers}", self._settings["task_default_queue"]
        options = [
            "-c",
            "3",
            "-l",
            "INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            __name__,
            "worker",
            "-n",
            f"{name}-{queue}@%h",
            *options,
        ]
        environment = {
            **os.environ,
            VARIABLE: json.dumps(self._settings),
            "TMPDIR": str(self._directory),
        }
        with open(self._directory / "worker.log", "ab") as log:
            self._worker = subprocess.Popen(  # noqa: S603
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.report(f"worker {self._workers} is started (process {self._worker.pid})")

    def kill_worker(self) -> None:
        """Kill the worker and its pool, as the kernel does when memory runs out: no code can clean
        up.
        """
        assert self._worker is not None
        os.killpg(self._worker.pid, signal.SIGKILL)
        self._killed_at = time.time()
        self._worker.wait()
        self._worker = None
        self.report(f"worker {self._workers} is killed: kill -9, while it charges")

    def dismiss_worker(self) -> None:
        """Ask the worker to stop, without waiting for it."""
        if self._worker is not None:
            self._worker.terminate()

    def stop_worker(self) -> None:
        """Make sure that nothing of the worker is left."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(1)
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def _worker_log(self) -> str:
        lines = (self._directory / "worker.log").read_text(errors="replace").splitlines()
        return "\n".join(["The worker's last words:", *lines[-30:]])

    # -- telling and waiting -----------------------------------------------------------------------

    def report(self, text: str) -> None:
        """Tell what happens now."""
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is true.

        Raises:
            DemoFailed: it takes too long, or the worker has died by itself.
        """
        end = time.monotonic() + PATIENCE
        while not condition():
            if self._worker is not None and self._worker.poll() is not None:
                raise DemoFailed(
                    f"the worker ended with code {self._worker.returncode}.\n{self._worker_log()}"
                )
            if time.monotonic() > end:
                raise DemoFailed(
                    f"{what} did not come within {PATIENCE:.0f} s.\n{self._worker_log()}"
                )
            time.sleep(0.03)

    def _ran(self) -> Counter[Attempt]:
        lines = self.journal.read_text().splitlines()
        return Counter(
            (order_id, activity, attempt) for order_id, activity, attempt in map(json.loads, lines)
        )


# -- a place of its own ----------------------------------------------------------------------------


@contextmanager
def _prepared(broker: str | None, store: str | None, backend: str | None) -> Iterator[_Show]:
    """Make everything that the run needs, and remove it in the end."""
    name = f"celery_durable_demo_{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="celery-durable-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        journal = directory / "journal"
        journal.touch()
        url = (
            stack.enter_context(own_store(store, name))
            if store
            else f"sqlite:///{directory / 'store.db'}"
        )
        settings = settings_of_run(
            name, directory, broker=broker, store=url, backend=backend, journal=journal
        )
        configure(app, settings)
        durable.migrate()
        stack.callback(durable.runtime.store.dispose)
        where = "embedded"
        if broker:
            where = reached(app, broker)
            stack.callback(remove_queue, app, broker, name)
        if backend:
            stack.callback(lambda: [app.AsyncResult(id_).forget() for id_ in ORDERS])
        show = _Show(
            directory, settings, f"Broker: {where}, store: {durable.runtime.store.location}"
        )
        stack.callback(show.stop_worker)
        yield show
