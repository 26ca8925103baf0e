from __future__ import annotations

import pytest

from celery_durable import DurableError
from celery_durable.testing import DurableEnv
from tests.testing import adoption as shop


@pytest.fixture
def durable_app():
    return shop.durable


def paid(env: DurableEnv, **options):
    env.event("o", "approved", {})
    return env.run(shop.fulfil.s("1"), instance_id="o", **options)["paid"]


def test_one_value_for_all_calls(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.charge, returns="free")
    assert paid(durable_env) == "free"


def test_a_list_is_one_value_for_each_call_and_a_list_within_is_one(
    durable_env: DurableEnv,
) -> None:
    durable_env.replace(shop.charge, returns=[["a", "list"]])
    assert paid(durable_env) == ["a", "list"]
    with pytest.raises(AssertionError, match=r"charge was called with \('1', 99\) once more"):
        durable_env.run(shop.fulfil.s("1"), instance_id="second")


def test_a_function_of_the_arguments(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.charge, side_effect=lambda order, amount: [order, amount])
    assert paid(durable_env) == ["1", 99]


def test_errors_and_functions_in_a_list(durable_env: DurableEnv) -> None:
    durable_env.replace(
        shop.charge, side_effect=[shop.CardDeclined, shop.CardDeclined("b"), lambda *args: "third"]
    )
    run = durable_env.start(shop.fulfil.s("1"), instance_id="o")
    durable_env.advance(hours=9)
    durable_env.event(run, "approved", {})
    durable_env.run_until_idle()
    assert run.refresh().output["paid"] == "third"


def test_values_in_a_list_of_side_effects(durable_env: DurableEnv) -> None:
    declined = KeyError("no")
    effects = [1, declined, None, lambda *args: len(args), [2]]
    durable_env.replace(shop.charge, side_effect=effects)
    call = shop.calls_one.s(shop.charge.s("1", 99))
    assert durable_env.run(call) == 1
    with pytest.raises(KeyError):
        durable_env.run(call)
    assert [durable_env.run(call) for _ in range(3)] == [None, 2, [2]]


def test_a_block_ends_it(durable_env: DurableEnv) -> None:
    with durable_env.replace(shop.charge, returns="free"):
        assert paid(durable_env) == "free"
    durable_env.event("p", "approved", {})
    assert durable_env.run(shop.fulfil.s("1"), instance_id="p")["paid"] == "1 paid 99"


def test_the_end_of_the_test_ends_it() -> None:
    from celery_durable.testing import durable_environment

    before = dict(shop.app.tasks)
    with pytest.raises(KeyError), durable_environment(shop.durable) as env:
        env.replace(shop.charge, returns="free")
        env.replace("elsewhere.send", returns=1)
        env.replace(shop.kid, returns=1)
        raise KeyError
    assert shop.charge("1", 2) == "1 paid 2"
    assert dict(shop.app.tasks) == before
    with durable_environment(shop.durable) as env, pytest.raises(DurableError, match="no clock"):
        env.run(shop.kid.s(1))


def test_a_task_that_is_not_known_here(durable_env: DurableEnv) -> None:
    with pytest.raises(DurableError, match="'elsewhere.send', which is not registered here"):
        durable_env.run(shop.calls_unknown.s())


def test_a_task_by_its_name_alone(durable_env: DurableEnv) -> None:
    durable_env.replace("elsewhere.send", returns="sent")
    assert durable_env.run(shop.calls_unknown.s()) == "sent"
    assert [call.args for call in durable_env.calls("elsewhere.send")] == [("a",)]


def test_a_child(durable_env: DurableEnv) -> None:
    durable_env.check_determinism(hash_seeds=0)
    durable_env.replace(shop.kid, returns=["first", "second"])
    assert durable_env.run(shop.parent.s(1), instance_id="p") == ["first", "second"]
    assert [(call.args, call.instance_id) for call in durable_env.calls(shop.kid)] == [
        ((1,), "p"),
        ((2,), "p"),
    ]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"returns": 1, "raises": KeyError},
        {"raises": "text"},
        {"raises": [KeyError, 1]},
        {"side_effect": 1},
        {"gives": 1},
    ],
)
def test_what_is_no_replacement_is_refused(durable_env: DurableEnv, how) -> None:
    with pytest.raises(TypeError):
        durable_env.replace(shop.charge, **how)
    assert paid(durable_env) == "1 paid 99"


@pytest.mark.parametrize("task", [None, 7, object(), ""])
def test_what_is_no_task_is_refused(durable_env: DurableEnv, task) -> None:
    with pytest.raises(TypeError, match="a task, an orchestrator or a name"):
        durable_env.replace(task, returns=1)
    with pytest.raises(TypeError, match="a task, an orchestrator or a name"):
        durable_env.calls(task)


def test_of_several_the_newest_answers_whatever_ends_first() -> None:
    from celery_durable.testing import durable_environment

    with durable_environment(shop.durable) as env:
        outer = env.replace(shop.charge, returns="outer")
        inner = env.replace(shop.charge, returns="inner")
        assert paid(env) == "inner"
        outer.end()
        outer.end()
        env.event("p", "approved", {})
        assert env.run(shop.fulfil.s("1"), instance_id="p")["paid"] == "inner"
        with env.replace(shop.kid, returns=1):
            env.replace(shop.kid, returns=2)
        assert env.run(shop.parent.s(1)) == [2, 2]
        assert inner is not outer
    assert shop.charge("1", 2) == "1 paid 2"
    with durable_environment(shop.durable) as env:
        assert paid(env) == "1 paid 99"
        with pytest.raises(DurableError, match="no clock"):
            env.run(shop.kid.s(1))


def test_autoretry_surrounds_a_replacement(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.stubborn, raises=[KeyError("a"), KeyError("b"), None])
    assert durable_env.run(shop.calls_one.s(shop.stubborn.s())) is None


def test_what_a_body_calls_is_a_call_each(durable_env: DurableEnv) -> None:
    durable_env.replace(shop.tell, returns=["a", "b"])
    assert durable_env.run(shop.calls_one.s(shop.tells_twice.s())) == ["a", "b"]


def test_the_end_of_a_name_is_no_name(durable_env: DurableEnv) -> None:
    name = shop.tells_twice.name.rpartition(".")[2]
    for call in (lambda: durable_env.replace(name, returns=1), lambda: durable_env.calls(name)):
        with pytest.raises(
            ValueError, match=f"no task is called '{name}'. Is '{shop.tells_twice.name}'"
        ):
            call()
    assert durable_env.calls("elsewhere.tells_twice") == []
    assert durable_env.calls(shop.tells_twice.name) == []


def test_time_is_told_in_the_parts_of_a_timedelta(durable_env: DurableEnv) -> None:
    with pytest.raises(TypeError, match="days=, hours=.*'hour'"):
        durable_env.advance(hour=3)
