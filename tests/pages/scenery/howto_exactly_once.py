"""What the page on effects takes for granted."""

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


@app.task
@durable.transactional
def credit(session, account_id, amount):
    session.execute(
        sa.update(Account).where(Account.id == account_id).values(balance=Account.balance + amount)
    )


@app.task
@durable.transactional
def open_accounts(session):
    Base.metadata.create_all(session.connection())
    session.add_all([Account(id="a", balance=100), Account(id="b", balance=0)])


@app.task
@durable.transactional
def balances(session):
    return [row.balance for row in session.scalars(sa.select(Account).order_by(Account.id))]


@app.task
def ask_somebody_whether_it_was_sent(customer):
    return customer


def end(env, names):
    @durable.orchestrator
    async def bank(ctx):
        await ctx.call(open_accounts.s())
        await ctx.call(names["transfer"].s("a", "b", 30))
        return await ctx.call(balances.s())

    assert env.run(bank.s()) == [70, 30]
    env.replace(names["send_warning_letter"], raises=ActivityInterrupted("no one knows"))
    env.run(names["remind"].s("ada"))
    assert len(env.calls(ask_somebody_whether_it_was_sent)) == 1
