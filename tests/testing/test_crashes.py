from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from celery_durable.engine.outbox_recovery import OutboxRecovery
from celery_durable.testing import DurableEnv
from tests.testing import adoption as shop


@pytest.fixture
def durable_app():
    return shop.durable


def approved(env: DurableEnv) -> Any:
    env.event("o", "approved", {"by": "ada"}, after=timedelta(days=1))
    return env.run(shop.fulfil.s("1"), instance_id="o")


def test_the_result_is_the_same_wherever_workers_die(durable_env: DurableEnv) -> None:
    seen = []

    def scenario(env: DurableEnv) -> Any:
        found = approved(env), env.run(shop.all_kinds.s("o"), instance_id="all")
        seen.append(len(env.calls(shop.charge)))
        return found

    points = durable_env.crash_everywhere(scenario)
    assert points > 40
    assert len(seen) == points + 1
    assert seen[0] == 1 and max(seen) == 2, "some body ran again"


def test_a_list_gives_a_body_that_runs_again_the_same(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.charge, raises=[shop.CardDeclined(), None])
    assert durable_env.crash_everywhere(approved) > 20
    assert approved(durable_env) == {"paid": None, "by": "ada"}


def test_children_and_what_runs_at_most_once(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.kid, returns=["first", "second"])
    assert durable_env.crash_everywhere(lambda env: env.run(shop.parent.s(1))) > 20
    with pytest.raises(AssertionError, match="'ActivityInterrupted' instead of 'o'"):
        durable_env.crash_everywhere(lambda env: env.run(shop.careful.s("o")))


def test_another_result_names_the_point(durable_env: DurableEnv) -> None:
    def scenario(env: DurableEnv) -> Any:
        approved(env)
        return len(env.calls(shop.charge))

    with pytest.raises(AssertionError) as caught:
        durable_env.crash_everywhere(scenario)
    assert "returned 2 instead of 1" in str(caught.value)
    assert "between the body of tests.testing.adoption.charge and the record" in str(caught.value)


def test_an_engine_that_loses_something_is_found(
    durable_env: DurableEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that cannot fail is none: here recovery sends no activity again."""
    monkeypatch.setattr(OutboxRecovery, "repair", lambda self, limit, lost=None: 0)
    with pytest.raises(
        AssertionError, match="waits for what no clock brings: it waits for activity"
    ):
        durable_env.crash_everywhere(approved)


def test_what_fails_without_a_crash_is_raised_as_it_is(durable_env: DurableEnv) -> None:
    with pytest.raises(ZeroDivisionError):
        durable_env.crash_everywhere(lambda env: 1 / 0)


def test_the_test_continues_with_its_own_store(durable_env: DurableEnv) -> None:
    durable_env.start(shop.fulfil.s("1"), instance_id="own")
    durable_env.crash_everywhere(approved)
    assert [run.id for run in shop.durable.find().items] == ["own"]
    with pytest.raises(AssertionError):
        durable_env.crash_everywhere(lambda env: (approved(env), env.calls(shop.charge)))
    assert [run.id for run in shop.durable.find().items] == ["own"]


def test_a_failure_of_pytests_own_names_the_point(durable_env: DurableEnv) -> None:
    def scenario(env: DurableEnv) -> None:
        approved(env)
        if len(env.calls(shop.charge)) > 1:
            pytest.fail("charged twice")

    with pytest.raises(AssertionError, match="point .*charged twice"):
        durable_env.crash_everywhere(scenario)


def test_handles_are_compared_by_what_came_of_them(durable_env: DurableEnv) -> None:
    assert durable_env.crash_everywhere(lambda env: env.start(shop.all_kinds.s("o"))) > 5
