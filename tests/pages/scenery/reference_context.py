"""What the reference of the context takes for granted."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from celery_durable import durable_context
from tests.pages.scenery.shop import app, durable


@dataclass
class Order:
    """What is ordered."""

    id: str


@dataclass
class Approval:
    """Who approved."""

    by: str


@dataclass
class Receipt:
    """What was paid."""

    key: str


def _task(name):
    def body(*args):
        return args[-1]

    return app.task(name=f"page.{name}")(body)


book_flight, cancel_flight, book_hotel, cancel_hotel, check_stock, ship = map(
    _task, ("book_flight", "cancel_flight", "book_hotel", "cancel_hotel", "check_stock", "ship")
)
bank = SimpleNamespace(charge=lambda order, by, key: {"key": f"{order['id']} by {by}"})
charge: Any = None  # a later block has it


def end(env, names):
    run = env.start(names["fulfil"].s(Order("42")))
    env.event(run, "approved", {"by": "ada"})
    env.run_until_idle()
    assert run.refresh().output == Receipt("42 by ada")
    assert env.run(names["book"].s("rome")) == {"flight": "rome", "hotel": "rome"}
    env.replace("page.book_hotel", raises=ValueError("full"))
    assert "full" in str(env.start(names["book"].s("rome")).failure)
    assert len(env.calls("page.cancel_flight")) == 1
    env.run(names["sell"].s("42"))
    assert len(env.calls("page.check_stock")) == 1
