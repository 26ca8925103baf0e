"""A steady load for a long time, then far too much, then a broker that forgets everything.

    python -m tests.benchmarks.soak 3600 out.json        # all of it
    python -m tests.benchmarks.soak 3600 out.json wiped  # one part

Orchestrations of five activities on a Redis of its own and PostgreSQL, one worker with two slots.
The client and the servers share its processors: rates are told as shares of what was reached when
as much was started as could be, and what the worker itself spends for an activity as a share of
what it spent then.

* *steady*: starts at random moments, at 80 % of the capacity, for so many seconds;
* *overload*: five times the capacity, for a minute at most, then nothing until all is done;
* *wiped*: some 10,000 activities and 1,000 turns wait, and the broker loses all of them.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from celery_durable.worker.witness import depth
from tests import leftovers
from tests.nodes import OwnRedis, running
from tests.servers import POSTGRES, own_database

from .meters import Cost, Meter
from .places import PLACES, worker

STEPS = 5
_OVERLOAD, _MOST_SECONDS = 5, 60.0


class Soak:
    """The phases, and what was seen in them."""

    def __init__(self, engine: sa.Engine, redis: OwnRedis, meter: Meter) -> None:
        from .app import durable, fan_out, sequence

        self._engine, self._redis, self._meter = engine, redis, meter
        self._durable, self._sequence, self._fan_out = durable, sequence, fan_out
        self._dice = random.Random(1)
        self.capacity = 0.0
        #: Seconds of the worker's processor for an activity, when all are there at once.
        self.spent = 0.0

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, sql: str, **values: Any) -> Any:
        with self._engine.connect() as connection:
            return connection.execute(sa.text(sql), values).one()

    def _left(self) -> int:
        return int(
            self._ask(
                "SELECT COUNT(*) FROM durable_instances WHERE purge_at IS NULL AND"
                " status IN ('PENDING', 'RUNNING')"
            )[0]
        )

    def _steps(self) -> int:
        """Return how many activities have ended so far: each took one turn, after the first."""
        return int(
            self._ask(
                "SELECT COALESCE(SUM(sequence - 1), 0) FROM durable_instances WHERE sequence > 0"
            )[0]
        )

    def _waiting(self) -> int:
        return int(self._ask("SELECT COUNT(*) FROM durable_outbox WHERE holder IS NULL")[0])

    def _is_sent(self) -> bool:
        """Tell whether what waits lies on the broker: sending follows the commit."""
        from .app import app

        with app.connection_for_read() as connection, connection.channel() as channel:
            return depth(channel, app.conf.task_default_queue) >= self._waiting() - 50

    def _latency(self, since: float) -> dict[str, float]:
        """Return the seconds from start to end of those that were started since then."""
        row = self._ask(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY updated_at - created_at),"
            " percentile_cont(0.95) WITHIN GROUP (ORDER BY updated_at - created_at), COUNT(*)"
            " FROM durable_instances WHERE status = 'COMPLETED' AND created_at >= :since",
            since=int(since * 1e6),
        )
        return {"p50": float(row[0] or 0) / 1e6, "p95": float(row[1] or 0) / 1e6, "n": int(row[2])}

    # -- doing -------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._durable.start(self._sequence.s(STEPS).set(ignore_result=True))

    def _start_for(self, seconds: float, rate: float) -> int:
        """Start at random moments, so many a second."""
        now = began = time.time()
        number, due = 0, began
        while now < began + seconds:
            due += self._dice.expovariate(rate)
            time.sleep(max(0.0, due - time.time()))
            self._start()
            number, now = number + 1, time.time()
        return number

    def _drain(self, limit: float = 1800) -> float:
        """Wait until everything has ended, and return how long that took."""
        began = time.time()
        while self._left():
            if time.time() - began > limit:
                raise TimeoutError(f"{self._left()} orchestrations have not ended after {limit} s")
            time.sleep(0.05)
        return time.time() - began

    def _messages(self, activities: int, *costs: Cost) -> float:
        received = [each for cost in costs for each in cost.received.items()]
        return sum(number for name, number in received if name != "sequence") / activities

    def _spent(self, activities: int, *costs: Cost) -> float:
        """Return the seconds of the worker's processor for an activity, first turns included."""
        return sum(cost.cpu["main"] + cost.cpu["children"] for cost in costs) / activities

    # -- the phases --------------------------------------------------------------------------------

    def best(self) -> dict[str, float]:
        """Find the capacity: orchestrations a second when all are there at once."""
        for number in (100, 500):
            with self._meter.reading() as cost:
                began = time.time()
                for _ in range(number):
                    self._start()
                self._drain()
                self.capacity = number / (time.time() - began)
            self.spent = self._spent(STEPS * number, cost)
        return {"orchestrations_per_second": self.capacity, "worker_cpu_ms": 1_000 * self.spent}

    def steady(self, seconds: float) -> dict[str, Any]:
        """Load it to four fifths; memory and latency are read in twelve parts."""
        parts, activities = [], 0
        with self._meter.reading() as cost:
            for _ in range(12):
                since = time.time()
                activities += STEPS * self._start_for(seconds / 12, 0.8 * self.capacity)
                parts.append({**self._latency(since), **self._meter.memory()})
            self._drain()
        growth = {
            # the least, as whatever else the machine does makes some parts late
            what: min(part[what] for part in parts[8:]) / min(part[what] for part in parts[2:6])
            for what in ("rss", "p50", "p95")
        }
        messages = self._messages(activities, cost)
        return {"growth": growth, "activity_messages": messages, "parts": parts}

    def overload(self, seconds: float) -> dict[str, Any]:
        """Start five times as much as it can do, then let it drain."""
        before = self._steps()
        with self._meter.reading() as burst:
            began = time.time()
            number = self._start_for(seconds, _OVERLOAD * self.capacity)
            done = self._steps() - before
            goodput = done / (time.time() - began)
        with self._meter.reading() as rest:
            drain = self._drain()
        left = STEPS * number - done
        since = time.time()
        for _ in range(20):
            self._start()
            self._drain()
        return {
            "started": number,
            "activities_left": left,
            "goodput": goodput / self.capacity / STEPS,
            "worker_cpu": self._spent(STEPS * number, burst, rest) / self.spent,
            "client_cpu": burst.cpu["client"] / burst.seconds,
            "drain": left / drain / self.capacity / STEPS,
            "latency_after": self._latency(since)["p50"],
            "activity_messages": self._messages(STEPS * number, burst, rest),
        }

    def wiped(self) -> dict[str, Any]:
        """Lose a long queue of activities and many turns, and see all of it sent again, once."""
        for _ in range(8):
            self._durable.start(self._fan_out.s(2000).set(ignore_result=True))
        self._until(lambda: self._waiting() >= 8000 and self._is_sent())
        # what was sent in the last seconds could still be on its way when the queue is found empty
        youngest = "SELECT MAX(sent_at) FROM durable_outbox WHERE holder IS NULL"
        self._until(lambda: self._ask(youngest)[0] < (time.time() - 6) * 1e6)
        for _ in range(1000):
            self._start()
        lost = self._waiting()
        self._redis.flush()
        began = time.time()
        first = self._until(lambda: self._ask("SELECT MAX(sends) FROM durable_outbox")[0])
        # what was not sent again 15 s later is what counts; some of it is done by then
        self._until(lambda: time.time() - began > 15)
        unsent, most = self._ask(
            "SELECT COUNT(*), MAX(sends) FROM durable_outbox WHERE holder IS NULL AND sends = 0"
            " AND sent_at < :wiped",
            wiped=int(began * 1e6),
        )
        again = self._ask("SELECT MAX(sends) FROM durable_outbox")[0]
        self._drain()
        return {
            "lost": lost,
            "first_again_after": first,
            "not_again_after_15_s": int(unsent),
            "most_sends": int(again or most or 0),
        }

    @staticmethod
    def _until(condition: Callable[[], object]) -> float:
        began = time.time()
        while not condition():
            time.sleep(0.05)
        return time.time() - began


def run(seconds: float, chosen: Collection[str] = ()) -> dict[str, Any]:
    """Run all phases, or those that are named, on servers of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(running(OwnRedis(folder)))
        url = stack.enter_context(own_database(POSTGRES))
        os.environ.update(
            BENCH_BROKER=redis.url, BENCH_RESULTS=redis.url, BENCH_STORE=url, BENCH_QUEUE="soak"
        )
        from .app import durable

        durable.migrate()
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        stack.callback(engine.dispose)
        pid = stack.enter_context(worker("prefork"))
        soak = Soak(engine, redis, Meter(pid, PLACES["redis-postgresql"]))
        found: dict[str, Any] = {}
        for name, phase in {
            "best": soak.best,
            "steady": lambda: soak.steady(seconds),
            "overload": lambda: soak.overload(min(_MOST_SECONDS, seconds / 5)),
            "wiped": soak.wiped,
        }.items():
            if name in chosen or name == "best" or not chosen:
                found[name] = phase()
                print(name, json.dumps(found[name]), flush=True)
        return found


if __name__ == "__main__":
    leftovers.begin()
    result = run(float(sys.argv[1]), sys.argv[3:])
    Path(sys.argv[2]).write_text(json.dumps(result, indent=1))
