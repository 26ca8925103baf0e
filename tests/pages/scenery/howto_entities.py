"""What the page on entities takes for granted."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tests.pages.scenery.shop import app, durable


def begin(env):
    return {"session": Session(sa.create_engine(durable.runtime.store.database.url))}


def end(env, names):
    account = names["durable"].entity(names["Account"], "c-7")
    account.signal.deposit(100)
    env.run_until_idle()
    order = {"customer": "c-7", "price": 30, "bonus": 2}
    assert env.run(names["pay"].s(order)) == {"paid": True, "left": 70}
    assert env.run(names["pay"].s({**order, "price": 500}))["paid"] is False
    env.run(names["transfer"].s("c-7", "c-8", 50))
    assert durable.entity("Account", "c-8").state() == {"balance": 50}
    env.run(names["inspect"].s("d-1"))
    assert len(env.calls(names["measure"])) == 1
