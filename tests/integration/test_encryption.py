"""Real workers with a codec and a payload store: one is killed, and one lacks the codec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

from tests.conftest import wait_until
from tests.contract.encoded_world import in_clear

from .conftest import Stage

SECRET = "SECRET-of-a-customer"


@pytest.fixture
def sealed(
    new_stage: Callable[..., Stage], redis_url: str, module_postgres_url: str, tmp_path: Path
) -> Stage:
    """A stage whose application has both settings."""
    return new_stage(
        redis_url,
        module_postgres_url,
        redis_url,
        TESTAPP_KEYS=Fernet.generate_key().decode(),
        TESTAPP_LARGE=str(tmp_path / "large"),
    )


def in_broker(stage: Stage) -> list[bytes]:
    """Return whatever the broker has of a stage, where a secret is in it."""
    client = redis.Redis.from_url(stage.environment["TESTAPP_BROKER"])
    found = []
    for key in client.scan_iter(f"{stage.queue}:*", count=1000):
        kind = client.type(key)
        values: Any = {
            b"list": lambda key: client.lrange(key, 0, -1),
            b"hash": lambda key: client.hgetall(key).values(),
        }.get(kind, lambda key: [])(key)
        found += [value for value in values if SECRET.encode() in value]
    return found


def test_nothing_shows_and_nothing_is_lost(sealed: Stage) -> None:
    attempt = sealed.testapp.attempt
    runs = [
        sealed.start(attempt.s("testapp.echo", [SECRET * length]), instance_id=f"e{length}")
        for length in (1, 400)
    ]
    held = sealed.start(attempt.s("testapp.hold", [SECRET]), instance_id="held")
    assert in_broker(sealed) == []
    worker = sealed.worker(concurrency=2)
    sealed.wait_for_run("hold", SECRET)
    worker.kill()
    sealed.worker(concurrency=2)
    sealed.wait_for_run("hold", SECRET, count=2)
    sealed.release(SECRET)
    assert [sealed.finish(run)["returned"] for run in runs] == [SECRET, SECRET * 400]
    assert sealed.finish(held) == {"returned": SECRET}
    assert in_broker(sealed) == []
    assert in_clear(sealed.durable.runtime.store, SECRET) == set()


def test_a_worker_without_the_codec_leaves_the_work_to_others(sealed: Stage) -> None:
    without = sealed.worker(concurrency=2, environment={"TESTAPP_KEYS": ""})
    run = sealed.start(sealed.testapp.attempt.s("testapp.echo", [SECRET]))
    wait_until(lambda: "durable_codec" in without.text(), 120, sealed.logs)
    assert not run.refresh().runtime_status.is_terminal
    sealed.worker(concurrency=2)
    assert sealed.finish(run) == {"returned": SECRET}
