"""What an instance had not been given when it failed is given to it after a rewind, also of a kind
from outside; only what its kind says lapses with the failure.
"""

from __future__ import annotations

from typing import Any

import pytest

from celery_durable.core.status import RuntimeStatus
from celery_durable.engine.draft import CHECK_AFTER
from celery_durable.engine.writes import NewInbox
from celery_durable.store import Store
from tests.contract.builders import rows
from tests.contract.conftest import empty_sqlite, open_url, sqlite_store  # noqa: F401  fixtures
from tests.contract.shop import Shop, hurry, replays, settled

from .toy_kind import ANSWERED, FAILED, Oracle, plugged_in


def answer(shop: Shop, value: Any) -> None:
    """Answer the first command of the instance, as a worker of the oracle would."""
    world = shop.world
    has_failed = isinstance(value, BaseException)
    message = NewInbox(
        "i",
        FAILED if has_failed else ANSWERED,
        "oracle:1",
        execution=world.client.fetch("i").execution,
        command=1,
        payload=world.codec.encode_failure(value) if has_failed else world.codec.encode(value),
        check_after=CHECK_AFTER,
    )
    world.store.inbox.put([message])


def failed_beside_an_answer(store: Store, moment: str, value: Any) -> Shop:
    """Return a world whose instance has failed, and to which an answer came too late for that."""
    shop = Shop(store)
    world = shop.world

    @world.orchestrator
    async def asks(ctx: Any) -> Any:
        answer = ctx.ask_oracle("when?")
        await ctx.call({"task": "do", "args": ("bad",), "kwargs": {}, "options": {}})
        try:
            return await answer
        except ValueError as error:
            return f"none: {error}"

    shop.broken = {"bad"}
    world.start("asks")
    world.runner.run("i")
    [row] = world.publisher.activities
    world.publisher.activities.clear()
    assert world.store.outcomes.record(world.outcome_of(row), release=True) is not None
    if moment == "before the turn":
        answer(shop, value)
    else:
        world.interpose("commit", before=lambda: answer(shop, value))
    world.runner.run("i")
    assert world.status() is RuntimeStatus.FAILED
    world.publisher.forget()
    hurry(world.store)
    world.recovery().repair_wakes()
    world.runner.run("i")  # a turn that finds it ended
    assert world.status() is RuntimeStatus.FAILED
    return shop


@pytest.mark.parametrize("moment", ["before the turn", "during the commit"])
@pytest.mark.parametrize(
    ("value", "output"), [("soon", "soon"), (ValueError("fog"), "none: fog")], ids=str
)
def test_an_input_of_a_kind_from_outside_is_given_after_a_rewind(
    sqlite_store: Store,  # noqa: F811
    moment: str,
    value: Any,
    output: str,
) -> None:
    with plugged_in():
        shop = failed_beside_an_answer(sqlite_store, moment, value)
        world = shop.world
        shop.broken.clear()
        world.client.rewind("i", None)
        assert settled(world)
        assert world.output() == output
        assert replays(world) > 0
        assert not rows(world.store, "inbox")


@pytest.mark.parametrize("moment", ["before the turn", "during the commit"])
def test_an_input_that_its_kind_lets_lapse_is_dropped_with_the_failure(
    sqlite_store: Store,  # noqa: F811
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Oracle, "lapsing", frozenset({ANSWERED}))
    with plugged_in():
        world = failed_beside_an_answer(sqlite_store, moment, "soon").world
        assert not rows(world.store, "inbox")
