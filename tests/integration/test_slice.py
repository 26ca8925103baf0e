"""The thinnest slice through everything, in the two ways in which Celery projects test:
pytest-celery and celery.contrib.
"""

from __future__ import annotations

import sys
import uuid

import pytest
from celery.contrib.testing.worker import start_worker
from pytest_celery import CeleryTestBackend

from tests.conftest import wait_until
from tests.integration.conftest import load_testapp
from tests.nodes import APPLICATIONS, ROOT, LocalProcess, LocalRedis, LocalWorker

# -- pytest-celery: a cluster of nodes, which are local processes here -----------------------------


@pytest.fixture
def default_redis_broker(tmp_path):
    (tmp_path / "broker").mkdir()
    node = LocalRedis.launch(tmp_path / "broker")
    yield node
    node.teardown()


@pytest.fixture
def default_redis_backend(tmp_path):
    (tmp_path / "backend").mkdir()
    node = LocalRedis.launch(tmp_path / "backend")
    yield node
    node.teardown()


@pytest.fixture
def celery_redis_backend(default_redis_backend):
    """A backend whose end asks nothing of the other objects of this process.

    pytest-celery's own looks at the class of every one, and Django's settings raise when asked for
    it unless they are configured.
    """
    return CeleryTestBackend(default_redis_backend)


@pytest.fixture(params=["celery_redis_broker"])
def celery_broker(request):
    node = request.getfixturevalue(request.param)
    yield node
    node.teardown()


@pytest.fixture(params=["celery_redis_backend"])
def celery_backend(request):
    node = request.getfixturevalue(request.param)
    yield node
    node.teardown()


@pytest.fixture
def default_worker_container_cls():
    return LocalWorker


@pytest.fixture
def cluster_environment(default_redis_broker, default_redis_backend, sqlite_url, tmp_path):
    (tmp_path / "markers").mkdir()
    return {
        "TESTAPP_BROKER": default_redis_broker.url,
        "TESTAPP_BACKEND": default_redis_backend.url,
        "TESTAPP_STORE": sqlite_url,
        "TESTAPP_QUEUE": "celery",
        "TESTAPP_RUNS": str(tmp_path / "runs.jsonl"),
        "TESTAPP_MARKERS": str(tmp_path / "markers"),
        "PYTHONPATH": f"{APPLICATIONS}:{ROOT}",
    }


@pytest.fixture
def default_worker_container(default_worker_container_cls, cluster_environment, tmp_path):
    name = f"node-{uuid.uuid4().hex[:8]}@localhost"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "testapp",
        "worker",
        "-l",
        "INFO",
        "-c",
        "2",
        "-n",
        name,
    ]
    node = default_worker_container_cls(
        LocalProcess("worker", command, tmp_path / "worker.log", cluster_environment).start()
    )
    wait_until(lambda: node.ready_prompt in node.logs(), 60, "the worker node")
    yield node
    node.teardown()


@pytest.fixture
def celery_setup_app(cluster_environment):
    testapp = load_testapp(
        {key: value for key, value in cluster_environment.items() if key != "PYTHONPATH"}
    )
    yield testapp.app
    testapp.app.close()


def test_a_cluster_runs_an_orchestration_and_survives_the_kill_of_its_worker(celery_setup):
    assert celery_setup.ready(ping=False, control=True, docker=True)
    app = celery_setup.app
    assert app.tasks["testapp.triple"].delay(3).get(timeout=300) == 9
    run = app.tasks["testapp.wait_for_go"].delay()
    wait_until(lambda: run.refresh().started_at is not None, what="its first turn")
    celery_setup.worker.kill()
    assert celery_setup.worker.container.status == "exited"
    run.raise_event("go", "after the kill")
    celery_setup.worker.restart()
    assert run.get(timeout=300) == "after the kill"
    celery_setup.worker.assert_log_exists("ready.")


# -- celery.contrib: a worker thread in this process -----------------------------------------------


@pytest.mark.parametrize("broker", ["memory://", "durable://"])
def test_a_worker_in_this_process_runs_an_orchestration(new_stage, sqlite_url, broker):
    stage = new_stage(broker, sqlite_url, "cache+memory://")
    with start_worker(stage.app, pool="solo", perform_ping_check=False, shutdown_timeout=300):
        assert stage.outcome(stage.testapp.pipeline.s(_released(stage))) == 22
        run = stage.start(stage.testapp.wait_for_go.s())
        run.raise_event("go", 0)
        assert stage.finish(run) == 0


def _released(stage) -> str:
    stage.release("middle")
    return "middle"
