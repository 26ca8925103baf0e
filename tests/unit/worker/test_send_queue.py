"""Sending now, or running at once what would be sent, one thing after the other."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from celery_durable.worker.send_queue import SendQueue


def queue(*, eager: bool = False) -> SendQueue:
    app: Any = SimpleNamespace(conf=SimpleNamespace(task_always_eager=eager))
    return SendQueue(app)


def fail() -> None:
    raise OSError("no broker")


def test_what_is_sent_is_sent_now_and_an_error_is_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sends, sent = queue(), list[str]()
    assert sends.deliver(lambda: sent.append("a"), "a turn") is None
    assert sent == ["a"]
    error = sends.deliver(fail, "a turn")
    assert isinstance(error, OSError)
    assert "a turn could not be sent, recovery will: OSError: no broker" in caplog.text
    assert not sends.is_draining


def nested(sends: SendQueue, log: list[str]) -> None:
    """Run "outer", which sends "inner", which sends "innermost"."""

    def innermost() -> None:
        log.append("innermost")

    def inner() -> None:
        log.append("inner begins")
        sends.deliver(innermost, "innermost")
        log.append("inner ends")

    def outer() -> None:
        log.append("outer begins")
        sends.deliver(inner, "inner")
        log.append("outer ends")

    sends.deliver(outer, "outer")


IN_TURN = ["outer begins", "outer ends", "inner begins", "inner ends", "innermost"]


def test_what_runs_at_once_does_not_nest() -> None:
    sends, log = queue(eager=True), list[str]()
    sends.deliver(lambda: log.append(f"is draining: {sends.is_draining}"), "a look")
    nested(sends, log)
    assert log == ["is draining: True", *IN_TURN]
    assert not sends.is_draining


def test_without_that_it_does() -> None:
    sends, log = queue(), list[str]()
    nested(sends, log)
    assert log[:3] == ["outer begins", "inner begins", "innermost"]


def test_what_fails_at_once_does_not_end_the_rest() -> None:
    sends, log = queue(eager=True), list[str]()

    def outer() -> None:
        sends.deliver(fail, "a")
        sends.deliver(lambda: log.append("b"), "b")
        raise OSError("outer, too")

    assert sends.deliver(outer, "outer") is None
    assert log == ["b"]
    assert not sends.is_draining


def test_a_block_runs_all_that_is_sent_in_it_before_it_is_left() -> None:
    sends, log = queue(), list[str]()
    with sends.at_once():
        assert sends.is_eager and sends.is_draining
        nested(sends, log)
        assert log == []
    assert log == IN_TURN
    assert not sends.is_eager and not sends.is_draining


def test_of_a_block_that_is_broken_off_nothing_runs_and_the_outer_one_continues() -> None:
    sends, log = queue(), list[str]()
    with sends.at_once():
        with pytest.raises(ValueError, match="broken off"), sends.at_once():
            sends.deliver(lambda: log.append("inner"), "inner")
            raise ValueError("broken off")
        sends.deliver(lambda: log.append("outer"), "outer")
        assert sends.is_eager
    assert log == ["outer"]


def test_a_block_is_of_its_thread_alone() -> None:
    sends, found = queue(), list[bool]()
    with sends.at_once():
        thread = threading.Thread(target=lambda: found.append(sends.is_eager))
        thread.start()
        thread.join()
    assert found == [False]
