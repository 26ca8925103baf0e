"""What a durable step costs beside plain Celery canvas: same worker, same broker, same run, interleaved.

    python -m tests.benchmarks            # everything
    python -m tests.benchmarks chain fan  # some

Needs Redis and PostgreSQL (fsync on), found as the tests find them. Prints tables; asserts nothing about time.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager

import sqlalchemy as sa

from celery_durable.store import sweep

POSTGRES = os.environ.get("DURABLE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("DURABLE_TEST_REDIS", "redis://127.0.0.1:6379/0")


@contextmanager
def bench_store():
    name = f"durable_bench_{uuid.uuid4().hex[:8]}"
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        print("PostgreSQL", connection.execute(sa.text("SHOW server_version")).scalar(), end=", ")
        print("fsync", connection.execute(sa.text("SHOW fsync")).scalar())
    os.environ["BENCH_STORE"] = sa.make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    os.environ["BENCH_BROKER"] = REDIS
    os.environ["BENCH_QUEUE"] = name
    try:
        yield
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        import redis

        client = redis.Redis.from_url(REDIS)
        for key in client.scan_iter("durable-bench:*"):
            client.delete(key)


@contextmanager
def worker(**environment: str):
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.benchmarks.app",
        "worker",
        "-P",
        "prefork",
        "-c",
        "2",
        "-l",
        "WARNING",
    ]
    with subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle"], env={**os.environ, **environment}, start_new_session=True
    ) as process:
        from .app import app, noop

        try:
            noop.delay().get(timeout=60)
            yield
            app.control.shutdown()
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def interleaved(
    plain: Callable[[], object], durable: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    for run in (plain, durable, plain, durable):
        run()
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            found[which].append(timed((plain, durable)[which]))
    return found


def report(what: str, found: tuple[list[float], list[float]], per: int, unit: str = "step") -> None:
    plain, durable = (statistics.median(values) for values in found)
    print(
        f"{what:34} plain {plain * 1e3 / per:7.3f} ms/{unit}  durable {durable * 1e3 / per:7.3f} ms/{unit}  "
        f"ratio {durable / plain:.2f}  ({len(found[0])} rounds)",
        flush=True,
    )


def chain_bench() -> None:
    from celery import chain

    from .app import durable, noop, sequence

    found = interleaved(
        lambda: chain(*[noop.si() for _ in range(20)]).apply_async().get(timeout=60),
        lambda: awaited(durable.start(sequence.s(20))),
        20,
    )
    report("chain of 20 (target <= 1.5)", found, 20)


def awaited(run) -> object:
    from celery.result import AsyncResult

    from .app import app

    return AsyncResult(run.id, app=app).get(timeout=300)  # by the result backend, as for plain Celery


def fan_bench() -> None:
    from celery import chord, group

    from .app import count, durable, fan_out, one

    found = interleaved(
        lambda: chord(group(one.s(n) for n in range(500)))(count.s()).get(timeout=120),
        lambda: awaited(durable.start(fan_out.s(500))),
        6,
    )
    report("fan-out of 500 (target <= 1.2)", found, 500, "member")


def many_inline_bench() -> None:
    """The same where the starting process takes the first turn."""
    from .app import durable

    object.__setattr__(durable.settings, "start_inline", True)
    try:
        many_bench("200 x 5, durable_start_inline")
    finally:
        object.__setattr__(durable.settings, "start_inline", False)


def many_bench(label: str = "200 x 5 activities (target >= 0.7)") -> None:
    from celery import chain

    from .app import durable, noop, sequence

    def plain() -> None:
        for result in [chain(*[noop.si() for _ in range(5)]).apply_async() for _ in range(200)]:
            result.get(timeout=120)

    def ours() -> None:
        for run in [durable.start(sequence.s(5)) for _ in range(200)]:
            awaited(run)

    found = interleaved(plain, ours, 5)
    plain_rate, durable_rate = (1000 / statistics.median(values) for values in found)
    print(
        f"{label:34} plain {plain_rate:7.0f} /s       durable {durable_rate:7.0f} /s       "
        f"ratio {durable_rate / plain_rate:.2f}",
        flush=True,
    )


def idle_bench() -> None:
    """What recovery asks while there is nothing to do, in an empty store and in a full one."""
    from tests.contract.filling import fill

    from .app import durable

    store = durable.runtime.store
    lease = int(durable.settings.worker_lease * 1_000_000)
    store.beat("benchmark", "host")

    def look_ms() -> float:
        return statistics.median(timed(lambda: store.look(lease)) for _ in range(500)) * 1e3

    empty = look_ms()
    fill(store, 1_000_000, 100_000)
    full = look_ms()
    print(
        f"{'idle look (at most 1 a second)':34} empty {empty:.3f} ms       1,000,000 finished + 100,000 waiting {full:.3f} ms",
        flush=True,
    )
    for name in ("LOOK", "DUE_WAKES", "DUE_ACTIVITIES"):
        sql, _ = getattr(sweep, name).compiled(store.database)
        with store.database.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " + sql.replace("%(limit)s", "500"))
            print(f"-- {name}", *(row[0] for row in cursor.fetchall()), sep="\n  ", flush=True)


KEEP = [0, 100, 899, 999]


def long_bench(label: str) -> None:
    from celery import chain

    from .app import durable, mark, marks

    plain = timed(
        lambda: chain(mark.s(None, 0, KEEP), *[mark.s(n, KEEP) for n in range(1, 1000)]).apply_async().get(timeout=300)
    )
    moments: list[float] = []
    ours = timed(lambda: moments.extend(awaited(durable.start(marks.s(1000, KEEP)))))
    first, last = moments[1] - moments[0], moments[3] - moments[2]
    print(
        f"{'1000 sequential, ' + label:34} plain {plain:7.2f} s        durable {ours:7.2f} s        ratio {ours / plain:.2f}  "
        f"first 100: {first * 10:.2f} ms each, last 100: {last * 10:.2f} ms each",
        flush=True,
    )


def timer_bench() -> None:
    from .app import durable, timer

    late = sorted(awaited(durable.start(timer.s(1.0 + n * 0.037))) for n in range(20))
    print(
        f"{'timer lateness (target p50 < 50)':34} p50 {late[10] * 1e3:.1f} ms  p95 {late[18] * 1e3:.1f} ms  "
        f"earliest {late[0] * 1e3:.1f} ms",
        flush=True,
    )


def start_bench() -> None:
    from .app import durable, noop, sequence

    found = interleaved(lambda: noop.delay(), lambda: durable.start(sequence.s(1)), 200)
    report("start", found, 1, "start")


BENCHES = {
    "chain": chain_bench,
    "fan": fan_bench,
    "many": many_bench,
    "many_inline": many_inline_bench,
    "timer": timer_bench,
    "start": start_bench,
}


def main(chosen: list[str]) -> None:
    with bench_store():
        from .app import durable

        durable.migrate()
        with worker():
            for name, bench in BENCHES.items():
                if not chosen or name in chosen:
                    bench()
            if not chosen or "long" in chosen:
                long_bench("warm cache")
        if not chosen or "long" in chosen:
            with worker(BENCH_CACHE="0"):
                long_bench("no cache")
        if not chosen or "idle" in chosen:
            idle_bench()


if __name__ == "__main__":
    main(sys.argv[1:])
