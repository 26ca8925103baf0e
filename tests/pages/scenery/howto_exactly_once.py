"""What the page on effects takes for granted."""

from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from celery_durable import ActivityInterrupted
from tests.pages.scenery.shop import app, durable


class Base(DeclarativeBase):
    """Of the page's tables."""


class Account(Base):
    """An account, in the store's own database."""

    __tablename__ = "accounts"
    id: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]


class payments:
    """Of somebody else."""

    keys: ClassVar[list[str]] = []

    @classmethod
    def charge(cls, order_id, amount, *, idempotency_key):
        cls.keys.append(idempotency_key)
        return order_id


@app.task
@durable.transactional
def open_accounts(session):
    Base.metadata.create_all(session.connection())
    session.add_all([Account(id="a", balance=100), Account(id="b", balance=0)])


@app.task
@durable.transactional
def balances(session):
    return [row.balance for row in session.scalars(sa.select(Account).order_by(Account.id))]


def end(env, names):
    @durable.orchestrator
    async def bank(ctx):
        await ctx.call(open_accounts.s())
        await ctx.call(names["transfer"].s("a", "b", 30))
        return await ctx.call(balances.s())

    assert env.run(bank.s()) == [70, 30]
    env.replace(names["send_warning_letter"], raises=ActivityInterrupted("no one knows"))
    env.run(names["remind"].s("ada"))
    assert len(env.calls(names["ask_somebody_whether_it_was_sent"])) == 1

    @durable.orchestrator
    async def pay(ctx):
        return [await ctx.call(names["charge"].s(order, 9)) for order in ("1", "2")]

    assert env.run(pay.s()) == ["1", "2"]
    assert len(set(payments.keys)) == 2
