"""``retry_if`` and ``retry_after``: the exception has a say in whether and when it is tried again."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from celery_durable.core.retry import RetryPolicy, asked_wait, is_followed, path_of
from celery_durable.errors import ActivityError
from celery_durable.payload import PayloadCodec

from .harness import After, flaky, live

SECOND = 1_000_000
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * SECOND


class HttpError(Exception):
    def __init__(self, status, retry_after=None):
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


def is_theirs(error):
    return error.status >= 500


def run(policy, *outcomes):
    async def orchestrator(ctx):
        return await ctx.call(flaky.s(), retry=policy)

    return live(orchestrator, script={"flaky": list(outcomes)})


# -- whether ---------------------------------------------------------------------------------------


def test_the_condition_decides_about_what_the_classes_let_through():
    policy = RetryPolicy(max_attempts=9, retry_if=is_theirs, give_up_on=(KeyError,))
    assert run(policy, HttpError(503), "done").value == "done"
    with pytest.raises(HttpError):
        run(policy, HttpError(404), "done").value
    with pytest.raises(KeyError):  # the condition, which could not read it, was not asked
        run(policy, KeyError("status"), "done").value


def test_a_condition_that_raises_fails_the_call_with_its_own_exception():
    policy = RetryPolicy(retry_if=is_theirs)
    with pytest.raises(AttributeError, match="status"):
        run(policy, ValueError("no status"), "done").value


def test_no_limit_of_attempts():
    policy = RetryPolicy(max_attempts=None, first_interval=0)
    assert run(policy, *[HttpError(500)] * 25, "done").value == "done"
    assert policy.delay(10**9, HttpError(500), 0, lambda: 0.5) == 0


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="retry_if must be a function"):
        RetryPolicy(retry_if="always")  # type: ignore[arg-type]


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        (7, 7 * SECOND),
        (0.5, SECOND // 2),
        (0, 0),
        (timedelta(minutes=1), 60 * SECOND),
        (datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC), 9 * SECOND),
        (datetime(2025, 1, 1, tzinfo=UTC), 0),
        (datetime(2026, 1, 1), None),  # noqa: DTZ001
        ("7", None),
        (True, None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (timedelta(seconds=-1), None),
        (None, None),
        (object(), None),
    ],
)
def test_what_an_exception_may_ask_for(asked, wait):
    assert asked_wait(HttpError(429, asked), NOW) == wait


def test_an_exception_whose_wish_cannot_be_read_has_none():
    class Odd(Exception):
        @property
        def retry_after(self):
            raise RuntimeError("not now")

    assert asked_wait(Odd(), NOW) is None
    assert "retry_after" not in PayloadCodec().encode_failure(Odd())


def test_the_wish_replaces_the_interval_without_jitter_and_ceiling():
    policy = RetryPolicy(jitter=1.0, max_interval=2, first_interval=1)
    life = run(policy, HttpError(429, 40), "done")
    assert life.value == "done"
    assert life.seconds == 42  # each attempt takes a second


def test_the_wish_does_not_outlive_the_total_timeout():
    policy = RetryPolicy(max_attempts=9, total_timeout=30)
    with pytest.raises(HttpError):
        run(policy, HttpError(429, 31), "done").value
    assert run(policy, HttpError(429, 29), "done").value == "done"


@pytest.mark.parametrize("asked", [3, timedelta(seconds=3), datetime(2030, 1, 1, tzinfo=UTC)])
def test_the_wish_survives_in_an_error_that_cannot_be_rebuilt(asked, monkeypatch):
    module = ModuleType("gone_tomorrow")
    monkeypatch.setitem(sys.modules, "gone_tomorrow", module)
    Error = type("Error", (Exception,), {"__module__": "gone_tomorrow"})
    error = Error("busy")
    error.retry_after = asked
    payload = PayloadCodec().encode_failure(error)
    monkeypatch.delitem(sys.modules, "gone_tomorrow")
    found, is_rebuilt = PayloadCodec().decode_failure(payload)
    assert not is_rebuilt
    assert isinstance(found, ActivityError)
    assert asked_wait(found, NOW) == asked_wait(error, NOW)


def test_the_wish_of_a_rebuilt_error_is_the_one_it_had():
    codec = PayloadCodec(exception_modules=lambda: {__name__.partition(".")[0]})
    for asked in (3, timedelta(seconds=3), datetime(2030, 1, 1, tzinfo=UTC)):
        found, is_rebuilt = codec.decode_failure(codec.encode_failure(HttpError(429, asked)))
        assert is_rebuilt
        assert isinstance(found, HttpError)
        assert asked_wait(found, NOW) == asked_wait(HttpError(429, asked), NOW)


# -- elsewhere -------------------------------------------------------------------------------------


def test_a_worker_tells_alike_whether_another_attempt_follows():
    policy = RetryPolicy(max_attempts=3, retry_if=is_theirs, total_timeout=30)
    terms = policy.terms(1, NOW, lambda: 0.5)
    assert is_followed(terms, HttpError(500), NOW)
    assert not is_followed(terms, HttpError(404), NOW)
    assert is_followed(terms, HttpError(500, 20), NOW)
    assert not is_followed(terms, HttpError(500, 31), NOW)
    assert not is_followed(terms, ValueError(), NOW)


def test_a_condition_without_a_name_cannot_be_asked_elsewhere():
    nameless = lambda error: True  # noqa: E731
    assert path_of(is_theirs) == f"{__name__}:is_theirs"
    assert path_of(nameless) is None
    terms = RetryPolicy(retry_if=nameless).terms(1, NOW, lambda: 0.5)
    assert not is_followed(terms, HttpError(500), NOW)


def test_a_long_wish_is_a_timer_like_any_other():
    life = run(RetryPolicy(), After(1, HttpError(429, timedelta(days=40))), "done")
    assert life.seconds == 40 * 86_400 + 2
