"""Real workers, several processes: one span for an orchestration that moved between them, fields of
log lines, an exporter.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import wait_until
from tests.nodes import ROOT, WorkerProcess, load_application
from tests.servers import own_keys

HERE = str(Path(__file__).parent)


class Stage:
    """The application here as a client, and its workers."""

    def __init__(self, directory: Path, broker: str, store: str) -> None:
        self.directory = directory
        self.environment = {
            "MONITORED_DIRECTORY": str(directory),
            "MONITORED_BROKER": broker,
            "MONITORED_STORE": store,
            "MONITORED_QUEUE": f"durable-{uuid.uuid4().hex[:10]}",
        }
        self.module = load_application(Path(HERE) / "monitored.py", self.environment)
        self.module.durable.migrate()
        self.workers: list[WorkerProcess] = []

    def worker(self, *, concurrency: int = 1) -> WorkerProcess:
        log = self.directory / f"worker-{len(self.workers)}.log"
        self.workers.append(
            WorkerProcess(
                self.environment, log, app="monitored", paths=[HERE], concurrency=concurrency
            )
        )
        return self.workers[-1]

    def start(self, name: str, *args: Any) -> Any:
        return self.module.durable.start(self.module.app.tasks[name].s(*args))

    def spans(self, name: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.module.spans_in(self.directory)
        return [span for span in found if name in (None, span["name"])]

    def ready(self) -> None:
        for worker in self.workers:
            worker.wait_ready(300)

    def logs(self) -> str:
        return "\n".join(worker.text() for worker in self.workers)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.module.durable.runtime.store.database.dispose()
        self.module.app.close()


@pytest.fixture
def stage(tmp_path: Path, redis_url: str, postgres_url: str, provider: Any) -> Iterator[Stage]:
    stage = Stage(tmp_path, redis_url, postgres_url)
    with own_keys(redis_url, stage.environment["MONITORED_QUEUE"]):
        try:
            yield stage
        finally:
            stage.close()


def lines(stage: Stage, message: str) -> list[list[str]]:
    found = [line.split("|", 7) for line in stage.logs().splitlines() if line.count("|") >= 7]
    return [parts for parts in found if message in parts[7]]


def test_an_orchestration_over_several_workers_is_one_span_and_its_lines_name_it(
    stage: Stage,
) -> None:
    stage.worker()
    stage.worker()
    stage.ready()
    runs = [stage.start("steps", 8) for _ in range(4)]
    assert [run.get(timeout=300) for run in runs] == [8] * 4
    wait_until(lambda: len(stage.spans("orchestration:steps")) == 4, what="their spans")
    wholes = stage.spans("orchestration:steps")
    pids = {path.name for path in stage.directory.glob("spans-*.jsonl") if path.stat().st_size}
    assert len(pids) == 2, "both workers took part"
    for run in runs:
        (whole,) = [
            span for span in wholes if span["attributes"]["celery.durable.instance_id"] == run.id
        ]
        steps = [
            span
            for span in stage.spans("activity:step")
            if span["attributes"]["celery.durable.instance_id"] == run.id
        ]
        assert len(steps) == 8
        assert {span["parent_id"] for span in steps} == {whole["context"]["span_id"]}
        assert {span["context"]["trace_id"] for span in steps} == {whole["context"]["trace_id"]}
        for parts in lines(stage, "in step"):
            assert parts[1] == "monitored" and parts[3] == "steps" and parts[5:7] == ["step", "1"]
        own = [parts for parts in lines(stage, "in step") if parts[2] == run.id]
        assert [parts[4] for parts in own if parts[7] == "in step 3"] == ["4"], (
            "the turn that asked for it"
        )
        first = [parts for parts in lines(stage, "a turn begins") if parts[2] == run.id]
        assert ["WARNING", "monitored", run.id, "steps", "1", "None", "None"] in [
            parts[:7] for parts in first
        ]
        (done,) = [parts for parts in lines(stage, "all steps are done") if parts[2] == run.id]
        assert done[:7] == [
            "WARNING",
            "celery_durable.orchestrator.steps",
            run.id,
            "steps",
            "9",
            "None",
            "None",
        ]
        changes = [
            parts[:3] + parts[7:]
            for parts in lines(stage, repr(run.id))
            if parts[1] == "celery_durable.state"
        ]
        assert sorted(parts[3] for parts in changes) == [
            f"orchestration {run.id!r} (steps) is completed",
            f"orchestration {run.id!r} (steps) is running",
        ]
    outside = lines(stage, "ready.")
    assert outside and all(parts[2:7] == ["None"] * 5 for parts in outside)


@pytest.mark.long  # in one process: test_tracing.py
def test_a_crash_doubles_no_span(stage: Stage) -> None:
    stage.worker()
    stage.worker()
    stage.ready()
    run = stage.start("risky")
    assert run.get(timeout=300)[1] == "survived"
    wait_until(lambda: stage.spans("orchestration:risky"), what="its span")
    assert sum(not worker.is_running for worker in stage.workers) == 1
    (whole,) = stage.spans("orchestration:risky")
    assert [span["parent_id"] for span in stage.spans("activity:deadly")] == [
        whole["context"]["span_id"]
    ]
    assert len(stage.spans("activity:step")) == 1
    changes = [
        parts[7] for parts in lines(stage, repr(run.id)) if parts[1] == "celery_durable.state"
    ]
    assert sorted(changes) == [
        f"orchestration {run.id!r} (risky) is completed",
        f"orchestration {run.id!r} (risky) is running",
    ]


def samples(url: str) -> dict[tuple[str, tuple[str, ...]], float]:
    with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def exporter(stage: Stage) -> Iterator[Callable[..., str]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> str:
        log = stage.directory / "exporter.log"
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "monitored",
            "durable",
            "exporter",
            "--port",
            "0",
            *options,
        ]
        environment = {
            **os.environ,
            **stage.environment,
            "PYTHONPATH": os.pathsep.join([HERE, str(ROOT)]),
        }
        with log.open("wb") as out:
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=out,
                    stderr=out,
                    env=environment,
                    cwd=stage.directory,
                    start_new_session=True,
                )
            )
        found: Any = wait_until(
            lambda: (
                re.search(r"http://\S+/metrics", log.read_text())
                or processes[-1].poll() is not None
            ),
            300,
            "its address",
        )
        assert processes[-1].poll() is None, log.read_text()
        return str(found[0])

    yield start
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_exporter_counts_what_workers_do_once_events_are_on(
    stage: Stage, exporter: Callable[..., str]
) -> None:
    stage.worker(concurrency=2)
    url = exporter()
    stage.ready()
    assert stage.start("mixed").get(timeout=300)
    assert ("celery_durable_instances_finished_total", ("completed", "mixed")) not in samples(
        url
    ), "events are off"
    stage.module.app.control.enable_events()
    least = {
        ("celery_durable_instances_finished_total", ("completed", "mixed")): 1,
        ("celery_durable_instance_duration_seconds_count", ("mixed",)): 1,
        ("celery_durable_turns_total", ("committed", "mixed")): 2,
        ("celery_durable_activity_attempts_total", ("failed", "fails")): 1,
        ("celery_durable_activity_duration_seconds_count", ("fails",)): 1,
        ("celery_durable_timer_lag_seconds_count", ()): 1,
    }

    def are_counted() -> bool:
        assert stage.start("mixed").get(timeout=300)
        found = samples(url)
        return all(found.get(name, 0) >= count for name, count in least.items())

    wait_until(
        are_counted,
        what="each of the worker's children, which hear of it and tell at moments of their own",
    )
    found = samples(url)
    assert found["celery_durable_up", ()] == 1 and found["celery_durable_workers", ()] == 1
    stage.module.app.control.disable_events()
    with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310
        assert b"secret" not in answer.read()
