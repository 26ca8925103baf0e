"""Every public method of the classes that users meet has an example, and each example runs."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import shutil
import socket
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery, _state, chain
from sqlalchemy.orm import Session

import celery_durable
from celery_durable import (
    Durable,
    Limit,
    Orchestration,
    OrchestrationContext,
    Rate,
    RetryPolicy,
    RuntimeStatus,
    Schedule,
)
from celery_durable.core.saga import Saga
from celery_durable.handles.entity import EntityReference
from tests.conftest import wait_until

IN_ORCHESTRATORS = (OrchestrationContext, Saga)
OUTSIDE = (Durable, Orchestration, Schedule, EntityReference)
VALUES = (RetryPolicy, Limit, Rate, celery_durable.Debounce)
#: Another method's docstring says what they do.
SAME_AS_OTHERS = {"aask", "aget", "arefresh", "get", "revoke", "skip"}


@dataclass
class Example:
    """The code of the example in one docstring."""

    name: str
    source: str

    @classmethod
    def of(cls, name: str, documented: Any) -> Example:
        parts = doctest.DocTestParser().get_examples(inspect.getdoc(documented) or "")
        return cls(name, "".join(part.source for part in parts))


def _methods(cls: type) -> list[tuple[str, Callable[..., Any]]]:
    """Return the public methods that this package gives to a class."""
    return [
        (f"{cls.__name__}.{name}", member)
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
        and member.__module__.startswith("celery_durable")
        and not hasattr(member, "durable_twin_of")
    ]


def examples(*classes: type) -> list[Any]:
    found = [Example.of(*method) for cls in classes for method in _methods(cls)]
    return [pytest.param(each, id=each.name) for each in found if each.source]


@pytest.mark.parametrize("cls", [*IN_ORCHESTRATORS, *OUTSIDE], ids=lambda cls: cls.__name__)
def test_every_method_has_an_example(cls: type) -> None:
    methods = _methods(cls)
    missing = [
        name
        for name, method in methods
        if not Example.of(name, method).source
        and (name.rpartition(".")[2] not in SAME_AS_OTHERS or cls is Durable)
    ]
    assert methods
    assert missing == []


@dataclass
class Shop:
    """An app whose turns run in this process, and what the examples speak of."""

    app: Celery
    names: dict[str, Any]

    @property
    def durable(self) -> Durable:
        return self.names["durable"]

    def start(self, id_: str, order: str) -> Orchestration:
        return self.durable.start(
            self.names["fulfil"].s(order), instance_id=id_, tags={"customer": "ada"}
        )


def _declare(app: Celery, durable: Durable) -> dict[str, Any]:
    @app.task(name="shop.charge", shared=False)
    def charge(order: str, key: str | None = None) -> str:
        if order == "unpaid":
            raise ValueError("the card was refused")
        return f"{order} is paid"

    @app.task(name="shop.reserve", shared=False)
    def reserve(order: str) -> None: ...

    @app.task(name="shop.release", shared=False)
    def release(order: str) -> None: ...

    @app.task(name="shop.ship", shared=False)
    def ship(order: str) -> None: ...

    async def answer(ctx: OrchestrationContext) -> None:
        request = await ctx.wait_request("change_address")
        request.reply({"ok": True})

    @durable.orchestrator(name="shop.fulfil", shared=False)
    async def fulfil(ctx: OrchestrationContext, order: str) -> str:
        receipt: str = await ctx.call(charge.s(order))
        if order == "42":
            ctx.state.address = "Rome"
            answering = asyncio.ensure_future(answer(ctx))
            await ctx.wait_event("approved")
            answering.cancel()
        return receipt

    @fulfil.query
    def address(state: Any) -> Any:
        return state.address

    @durable.entity(shared=False)
    class Counter:
        count: int = 0

        def add(self, more: int) -> int:
            self.count += more
            return self.count

    return locals()


@pytest.fixture
def shop(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shutil.copy(sqlite_template, tmp_path / "store.db")
    monkeypatch.setattr(_state._tls, "current_app", _state._tls.current_app)
    shared = set(_state._on_app_finalizers)
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(
        task_always_eager=True,
        durable_backend_url=f"sqlite:///{tmp_path / 'store.db'}",
        result_backend="cache+memory://",
    )
    durable = Durable(app)
    given = _declare(app, durable)
    library = {name: getattr(celery_durable, name) for name in celery_durable.__all__}
    made = Shop(app, {"__name__": __name__, **library, **given, "durable": durable})
    made.start("order-1", "42")
    failed, done = made.start("order-2", "unpaid"), made.start("order-3", "7")
    assert failed.runtime_status is RuntimeStatus.FAILED
    assert done.runtime_status is RuntimeStatus.COMPLETED
    history = tmp_path / "tests" / "histories" / "order-42.json"
    history.parent.mkdir(parents=True)
    history.write_text(done.export_history())
    engine = sa.create_engine(app.conf.durable_backend_url)
    made.names.update(
        app=app,
        Celery=Celery,
        Path=Path,
        Session=Session,
        UTC=UTC,
        bookings=sa.table("bookings", sa.column("order")),
        chain=chain,
        datetime=datetime,
        done=done,
        engine=engine,
        failed=failed,
        insert=sa.insert,
        run=durable.get("order-1"),
        schedule=durable.schedule("nightly", given["fulfil"].s("7"), cron="0 3 * * *"),
        socket=socket,
        store=durable.runtime.store,
        timedelta=timedelta,
    )
    monkeypatch.chdir(tmp_path)
    yield made
    engine.dispose()
    durable.runtime.store.dispose()
    app.close()
    _state._on_app_finalizers.intersection_update(shared)


@pytest.mark.parametrize("example", examples(*OUTSIDE))
def test_it_runs(shop: Shop, example: Example) -> None:
    exec(example.source, shop.names)


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: cls.__name__)
def test_what_is_declared_can_be(shop: Shop, cls: type) -> None:
    source = Example.of(cls.__name__, cls).source
    assert cls.__name__ in source
    exec(source, shop.names)


@pytest.mark.parametrize("example", examples(*IN_ORCHESTRATORS))
def test_it_runs_in_an_orchestrator(shop: Shop, example: Example) -> None:
    """It goes through, or waits: nothing makes time pass here, and nobody raises events."""
    names = {**shop.names, "orders": ["1", "2"]}
    exec(
        f"async def body(ctx, order):\n{textwrap.indent(example.source, '    ')}    return 'ran'",
        names,
    )
    orchestrator = shop.durable.orchestrator(names["body"], name="shop.example", shared=False)
    run = shop.durable.start(orchestrator.s("42"))
    is_waiting = any(
        word in example.name for word in ("sleep", "wait_event", "wait_request", ".any")
    )
    expected = RuntimeStatus.RUNNING if is_waiting else RuntimeStatus.COMPLETED
    wait_until(lambda: run.refresh().runtime_status is expected, 10, str(run.failure))
    assert run.output == (None if is_waiting else "ran")
