"""The tree of errors: facts as attributes, and pickle."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from celery_durable import errors
from celery_durable.errors import (
    ActivityError,
    ActivityTimeout,
    DurableError,
    ForbiddenOperation,
    InstanceNotFound,
    OrchestrationFailed,
    OrchestrationRevoked,
    PayloadError,
    WaitTimeout,
)

ALL_ERRORS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("cls", ALL_ERRORS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle_with_its_facts(cls, protocol):
    error = cls(
        "what happened",
        instance_id="order-42",
        message="a fact",
        type="x",
        kind="timeout",
        reason=None,
    )
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is cls
    assert str(again) == "what happened"
    assert again.facts == error.facts
    assert again.instance_id == "order-42"
    assert again.reason is None


@pytest.mark.parametrize("cls", ALL_ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_is_stored_under_its_public_name(cls):
    assert cls.__module__ == "celery_durable.errors"


@pytest.mark.parametrize("cls", ALL_ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_can_be_copied_and_made_without_arguments(cls):
    assert str(cls()) == ""
    assert copy.deepcopy(cls("x", n=[1])).n == [1]


def test_one_root_and_the_builtin_that_each_error_also_is():
    assert all(issubclass(cls, DurableError) for cls in ALL_ERRORS)
    assert issubclass(InstanceNotFound, LookupError)
    assert issubclass(ActivityTimeout, TimeoutError)
    assert issubclass(ForbiddenOperation, RuntimeError)
    assert issubclass(PayloadError, ValueError)
    assert issubclass(OrchestrationRevoked, OrchestrationFailed)
    assert issubclass(OrchestrationRevoked, TaskRevokedError)
    assert issubclass(WaitTimeout, TimeoutError) and issubclass(WaitTimeout, CeleryTimeoutError)


def test_the_contract_names_are_all_there():
    promised = (
        "DurableError InstanceNotFound InstanceExists InvalidState ActivityError ActivityTimeout"
        " OrchestrationFailed NonDeterminismError PayloadError StoreError ConfigurationError"
    ).split()
    assert set(promised) <= set(errors.__all__)


def test_a_fact_that_is_not_there_is_an_attribute_error():
    error = DurableError("x", known=1)
    assert error.known == 1
    with pytest.raises(AttributeError, match="'DurableError' object has no attribute 'unknown'"):
        error.unknown
    assert not hasattr(error, "instance_id")


def test_an_activity_error_keeps_the_original_s_facts():
    error = ActivityError("shop.Gone: m", type="shop.Gone", message="m", traceback=None)
    assert (error.type, error.message, error.traceback) == ("shop.Gone", "m", None)


def test_an_error_that_was_never_initialised_has_no_facts_and_does_not_recurse():
    error = DurableError.__new__(DurableError)
    assert not hasattr(error, "instance_id")


def test_who_waits_can_tell_a_wait_that_ran_out_from_a_timeout_that_is_the_failure(
    new_app: Any,
) -> None:
    app = new_app()

    @app.durable.orchestrator(name="slow")
    async def slow(ctx: Any) -> None:
        await ctx.wait_event("never")

    @app.durable.orchestrator(name="fails")
    async def fails(ctx: Any) -> None:
        await ctx.wait_event("go", timeout=0)

    run = app.durable.start(slow.s(), instance_id="i")
    for wait in (run.wait, run.get, lambda timeout: run.get(timeout, propagate=False)):
        with pytest.raises(WaitTimeout) as raised:
            wait(0.01)
        assert (raised.value.instance_id, raised.value.timeout) == ("i", 0.01)
    failed = app.durable.start(fails.s())
    app.durable.runtime.runner.run(failed.id)
    with pytest.raises(TimeoutError) as own:
        failed.wait(0.01)
    assert not isinstance(own.value, WaitTimeout)
    assert type(failed.get(0.01, propagate=False)) is TimeoutError
