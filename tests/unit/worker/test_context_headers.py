"""Headers that travel: which a message would have, and that none is sent to find out."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, signals

from celery_durable.worker.context_headers import ContextHeaders

NAMES = ("x-request", "x-tenant")


def new_app(**conf: Any) -> Celery:
    app = Celery("headers", broker="memory://", set_as_current=False)
    app.conf.task_default_queue = f"headers-{uuid.uuid4().hex[:8]}"  # all share that broker
    app.conf.update(conf)

    @app.task(name="flow", shared=False)
    def flow(*args: Any) -> None:
        raise AssertionError("nothing runs")

    app.finalize()
    return app


@contextmanager
def handler(**added: Any) -> Iterator[list[Any]]:
    """Add headers to what is published, as a library for tracing does."""
    seen: list[Any] = []

    def add(sender: Any, headers: Any, body: Any, **_: Any) -> None:
        seen.append((sender, body[0]))
        headers.update(added)

    signals.before_task_publish.connect(add)
    try:
        yield seen
    finally:
        signals.before_task_publish.disconnect(add)


def captured(app: Celery, names: tuple[str, ...] = NAMES, **options: Any) -> Any:
    return ContextHeaders(app, names).captured(app.tasks["flow"], (5,), {}, options)


def waiting(app: Celery) -> int:
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        return int(queue.qsize())


@pytest.mark.parametrize("eager", [False, True])
def test_what_a_handler_adds_is_captured_and_nothing_is_sent(eager: bool) -> None:
    app, published = new_app(task_always_eager=eager), list[Any]()
    receiver = signals.after_task_publish.connect(lambda **_: published.append(1), weak=False)
    with handler(**{"x-request": "r1", "other": "o"}) as seen:
        assert captured(app) == {"x-request": "r1"}
    signals.after_task_publish.disconnect(receiver)
    assert seen == [("flow", (5,))]
    assert (waiting(app), published) == (0, [])


def test_what_the_start_was_given_is_before_what_is_added() -> None:
    with handler(**{"x-request": "added"}):
        found = captured(new_app(), headers={"x-request": "given", "x-tenant": "acme", "y": 1})
    assert found == {"x-request": "given", "x-tenant": "acme"}


def test_no_message_is_made_where_no_header_travels() -> None:
    with handler(**{"x-request": "r1"}) as seen:
        assert captured(new_app(), names=()) == {}
    assert seen == []


def test_an_error_of_a_handler_is_for_who_starts() -> None:
    app = new_app()

    def refuse(*_: Any, **__: Any) -> Any:
        raise LookupError("no tenant")

    app.tasks["flow"].apply_async = refuse
    with pytest.raises(LookupError, match="no tenant"):
        captured(app)


def test_those_of_a_message_are_the_ones_that_it_has() -> None:
    request = SimpleNamespace(headers={"x-request": "r1", "other": 1})
    assert ContextHeaders(new_app(), NAMES).of_message(request) == {"x-request": "r1"}


def test_what_was_captured_is_kept_whatever_hooks_put_in_its_place() -> None:
    app, sent = new_app(), list[Any]()
    producer = SimpleNamespace(
        name="p", publish=lambda body, **values: sent.append((body, values["headers"]))
    )

    @contextmanager
    def acquired(*_: Any) -> Iterator[Any]:
        yield producer

    app.producer_or_acquire = acquired  # type: ignore[method-assign]
    options: dict[str, Any] = {"headers": {"x-request": "first", "other": 1}}
    with ContextHeaders(app, NAMES).kept(options):
        keeping = options["producer"]
        assert keeping.name == "p"
        keeping.publish("body", headers={"x-request": "of a hook", "other": 2})
    assert sent == [("body", {"x-request": "first", "other": 2})]
    assert "producer" not in options
    with ContextHeaders(app, NAMES).kept(plain := {"headers": {"other": 1}}):
        assert "producer" not in plain
