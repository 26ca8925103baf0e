from __future__ import annotations

import pytest

from celery_durable import ConfigurationError
from celery_durable.testing import DurableEnv, durable_environment
from tests.testing import adoption as shop


@pytest.fixture
def durable_app():
    return shop.durable


def test_what_is_deterministic_passes(durable_env: DurableEnv) -> None:
    durable_env.check_determinism(hash_seeds=1)
    assert durable_env.run(shop.fulfil.s("1"))["by"] == "nobody"
    assert durable_env.run(shop.all_kinds.s("o"), instance_id="i")[0] == "i"


def test_each_turn_is_replayed(durable_env: DurableEnv) -> None:
    shop.calls.clear()
    durable_env.check_determinism(hash_seeds=0)
    with pytest.raises(AssertionError, match="NonDeterminismError"):
        durable_env.run(shop.forgets.s())


def test_without_the_check_it_is_not_found(durable_env: DurableEnv) -> None:
    shop.calls.clear()
    assert durable_env.run(shop.forgets.s()) == "y paid 1"


@pytest.mark.long  # what needs time, below, is the order of a set too
def test_the_order_of_a_set_is_found_by_other_hash_seeds() -> None:
    with pytest.raises(AssertionError, match="with another hash seed"):
        with durable_environment(shop.durable) as env:
            env.check_determinism(hash_seeds=3)
            env.run(shop.by_set.s())


def test_what_another_process_cannot_import_is_told() -> None:
    @shop.durable.orchestrator(name="tests.local")
    async def local(ctx):
        return 1

    with pytest.raises(ConfigurationError, match="no other process can import"):
        with durable_environment(shop.durable) as env:
            env.check_determinism()
            env.run(local.s())
    with durable_environment(shop.durable) as env:
        env.check_determinism(hash_seeds=0)
        assert env.run(local.s()) == 1
    with durable_environment(shop.durable) as env, pytest.raises(ValueError, match="-1"):
        env.check_determinism(hash_seeds=-1)


def test_a_failure_of_the_test_is_not_hidden_by_the_check() -> None:
    with pytest.raises(KeyError), durable_environment(shop.durable) as env:
        env.check_determinism()
        env.run(shop.by_set.s())
        raise KeyError


@pytest.mark.parametrize("name", ["by_set_later", "gives_set"])
def test_what_needs_time_and_results_are_looked_at_too(name: str) -> None:
    with pytest.raises(AssertionError, match="with another hash seed"):
        with durable_environment(shop.durable) as env:
            env.check_determinism(hash_seeds=3)
            env.run(getattr(shop, name).s())


def test_a_disagreement_after_a_time_is_told_as_one(durable_env: DurableEnv) -> None:
    shop.calls.clear()
    durable_env.check_determinism(hash_seeds=0)
    with pytest.raises(AssertionError, match="NonDeterminismError"):
        durable_env.run(shop.forgets_later.s())


def test_stand_ins_for_code_are_not_replayed_elsewhere(durable_env: DurableEnv) -> None:
    durable_env.check_determinism(hash_seeds=1)
    with durable_env.replace(shop.kid, returns=5):
        assert durable_env.run(shop.parent.s(1)) == [5, 5]
    durable_env.replace(shop.kid, returns=6)
    assert durable_env.run(shop.parent.s(1)) == [6, 6]
