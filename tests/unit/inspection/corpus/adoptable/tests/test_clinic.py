from unittest import mock
from unittest.mock import patch

import pytest
from celery import chain, chord
from celery.result import AsyncResult

from clinic.tasks import book, start


@patch("clinic.tasks.book.delay")  # adopt: patched
def test_start(delay):
    start(1)


def test_others(monkeypatch, mocker, settings):
    monkeypatch.setattr(book, "apply_async", print)  # adopt: patched
    monkeypatch.setattr("clinic.tasks.book.delay", print)  # adopt: patched
    mocker.patch("clinic.views.letter.delay_on_commit")  # adopt: patched
    with mock.patch.object(book, "delay"):  # adopt: patched
        settings.CELERY_TASK_ALWAYS_EAGER = True  # adopt: eager
    chain(book.s(1), book.s(2), book.s(3)).apply_async(task_id="x")
    chord([book.s(1)])(book.s())
    assert AsyncResult("x").state == "PENDING"


@pytest.fixture
def celery_config():
    return {"task_always_eager": True, "broker_url": "memory://"}  # adopt: eager
