"""Entities by the front door: the decorator, references, lists, transactions of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery, _state
from sqlalchemy.orm import Session

from celery_durable import (
    ConfigurationError,
    Durable,
    DurableError,
    Entity,
    InvalidState,
    RuntimeStatus,
    entity,
)


def make_class(name: str = "Counter") -> Any:
    class Counter:
        value: int = 0

        def add(self, n: int) -> int:
            self.value += n
            return self.value

    Counter.__name__ = Counter.__qualname__ = name
    return Counter


@pytest.fixture
def app(new_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """An application that runs everything at once, in this process."""
    app = new_app(task_always_eager=True)
    monkeypatch.setattr(_state._tls, "current_app", app)
    return app


def test_the_example_of_the_contract(app: Any) -> None:
    durable = app.durable

    @durable.entity
    class Counter:
        value: int = 0

        def add(self, n: int) -> int:
            self.value += n
            return self.value

    @durable.orchestrator
    async def count(ctx: Any) -> Any:
        return await ctx.entity(Counter, "visits").add(5)

    assert Counter().add(3) == 3  # an ordinary class
    assert durable.entity(Counter, "visits").state() is None
    assert durable.entity(Counter, "visits").signal.add(1) is None
    assert durable.entity(Counter, "visits").state() == {"value": 1}
    assert durable.start(count.s()).get(timeout=300) == 6
    durable.entity("Counter", "visits").signal.add(n=1)
    assert durable.entity("Counter", "visits").state() == {"value": 7}
    assert repr(durable.entity(Counter, "visits")) == "<entity @Counter@visits>"


def test_options_and_names(app: Any) -> None:
    durable = app.durable
    Counter = durable.entity(make_class(), name="shop.Counter", queue="entities")
    assert app.tasks["celery_durable.entity.shop.Counter"].queue == "entities"
    durable.entity(Counter, "a").signal.add(1)
    assert durable.get("@shop.Counter@a")._known.queue == "entities"
    other = durable.entity(name="other")(make_class())
    durable.entity(other, "a").signal.add(2)
    assert [each.id for each in durable.entities(other).items] == ["@other@a"]
    durable.entity(Counter, name="shop.Counter")  # again, as in an interactive session
    with pytest.raises(ConfigurationError, match="already"):
        durable.entity(make_class("Else"), name="shop.Counter")
    for options in ({"version": "1"}, {"max_activities": 3}):
        with pytest.raises(ConfigurationError, match="takes no"):
            durable.entity(make_class(), **options)
    with pytest.raises(TypeError, match="lacks the key"):
        durable.entity("Counter")
    with pytest.raises(TypeError, match="takes nothing else"):
        durable.entity(Counter, "a", queue="x")
    with pytest.raises(TypeError):
        durable.entity(3)


def test_declared_before_there_is_an_app(new_app: Callable[..., Any]) -> None:
    durable = Durable()
    Counter = durable.entity(make_class())
    app = Celery("late", broker="memory://", set_as_current=False)
    durable.init_app(app)
    assert "celery_durable.entity.Counter" in app.tasks
    assert durable.entity(Counter, "k").id == "@Counter@k"
    app.close()


@pytest.fixture
def shared() -> Iterator[Any]:
    """An entity of whatever app is current."""
    from celery_durable.app import shared as module

    before = set(_state._on_app_finalizers)
    yield entity(make_class("Shared"))
    _state._on_app_finalizers.intersection_update(before)
    module._shared.pop("celery_durable.entity.Shared")
    module._shared_entities.pop("Shared")


def test_the_shared_form(shared: Any, app: Any) -> None:
    app.durable.entity(shared, "k").signal.add(4)
    assert app.durable.entity(shared, "k").state() == {"value": 4}
    with pytest.raises(ConfigurationError, match="already"):
        entity(make_class("Else"), name="Shared")


def test_entities_are_no_orchestrations_in_lists(app: Any) -> None:
    durable = app.durable
    Counter = durable.entity(make_class())

    @durable.orchestrator(name="waits")
    async def waits(ctx: Any) -> None:
        await ctx.wait_event("go")

    durable.start(waits.s(), instance_id="i")
    for key in "abc":
        durable.entity(Counter, key).signal.add(1)
    assert [run.id for run in durable.find(status="RUNNING").items] == ["i"]
    assert durable.count() == 1
    assert (
        durable.count(name="celery_durable.entity.Counter")
        == durable.count(id_prefix="@Counter@")
        == 3
    )
    first = durable.entities(Counter, limit=2)
    second = durable.entities(limit=2, cursor=first.next_cursor)
    assert second.next_cursor is None
    found = [*first.items, *second.items]
    assert {(each.name, each.key, each.state["value"]) for each in found} == {
        ("Counter", key, 1) for key in "abc"
    }
    assert all(
        isinstance(each, Entity) and not each.is_empty and each.locked_by is None for each in found
    )
    assert all(each.updated_at.utcoffset() == timedelta(0) for each in found)
    assert durable.terminate(status="RUNNING").done == 1  # of all that runs: entities stay
    assert durable.entity(Counter, "a").state() == {"value": 1}
    assert durable.get("@Counter@a").custom_status == {"value": 1}
    for limit in (0, 1001):
        with pytest.raises(ValueError):
            durable.entities(limit=limit)
    with pytest.raises(TypeError):
        durable.entities(int)


def test_cleaning(app: Any) -> None:
    durable = app.durable
    Counter, Other = durable.entity(make_class()), durable.entity(make_class("Other"))
    for cls in (Counter, Other):
        durable.entity(cls, "empty").signal.add(0)
        durable.entity(cls, "full").signal.add(1)
        durable.entity(cls, "later").signal(delay=3600).add(1)
    assert durable.clean_entities(Counter) == 1
    assert durable.clean_entities() == 1
    assert durable.clean_entities() == 0
    assert {each.key for each in durable.entities().items} == {"full", "later"}


def test_the_store_is_out_of_reach_inside_an_orchestrator(app: Any) -> None:
    durable = app.durable
    Counter = durable.entity(make_class())

    @durable.orchestrator(name="reaches")
    async def reaches(ctx: Any) -> Any:
        seen = []
        for call in (
            durable.entity(Counter, "k").signal.add,
            lambda n: durable.entity(Counter, "k").state(),
        ):
            try:
                call(1)
            except DurableError as error:
                seen.append("would not replay" in str(error))
        return seen

    assert durable.start(reaches.s()).get(timeout=300) == [True, True]


def test_a_transaction_of_the_callers(app: Any, tmp_path: Any) -> None:
    durable = app.durable
    Counter = durable.entity(make_class())
    reference = durable.entity(Counter, "k")
    assert reference.state() is None  # makes the tables
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    with Session(engine) as session:
        reference.signal(session=session).add(1)
        reference.signal(session=session).add(2)
        session.rollback()
        assert reference.state() is None and not durable.entities().items
        reference.signal(session=session).add(3)
        reference.signal(session=session).add(4)
        assert reference.state() is None
        session.commit()
        assert reference.state() == {"value": 7}
    with pytest.raises(ConfigurationError):
        reference.signal(session=object()).add(1)
    engine.dispose()


def test_verbs_on_an_entity(app: Any) -> None:
    durable = app.durable
    Counter = durable.entity(make_class())
    reference = durable.entity(Counter, "k")
    reference.signal.add(1)
    run = durable.get(reference.id)
    run.cancel()
    assert run.refresh().runtime_status is RuntimeStatus.RUNNING
    with pytest.raises(InvalidState):
        run.purge()
    run.suspend()
    reference.signal.add(1)
    assert reference.state() == {"value": 1}
    run.resume()
    assert reference.state() == {"value": 2}
    verification = durable.verify(live=True, name="celery_durable.entity.Counter")
    assert verification.is_ok and verification.checked == 1
    run.terminate()
    assert reference.state() is None and not durable.entities().items
    reference.signal.add(1)
    assert reference.state() == {"value": 1}
