"""What has to happen, in which order, and what if it does not: the shop's business processes.

This code touches the world through activities only, and takes the time from ``ctx``: it is run
again from history whenever a process continues with it.
"""

import asyncio
import calendar
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings

from celery_durable import RetryPolicy
from config.celery import durable

from . import activities as do
from .gateways import CardDeclined, NoAnswer, OutOfStock, ServiceDown

DAY = timedelta(seconds=settings.SHOP_DAY)
PATIENT = RetryPolicy(
    first_interval=0.5,
    max_attempts=8,
    max_interval=timedelta(minutes=5),
    retry_on=(ServiceDown, NoAnswer),
)
STUBBORN = RetryPolicy(first_interval=0.5, max_attempts=20, max_interval=timedelta(minutes=5))


class NotApproved(Exception):
    """No one may have this order; the message says why."""


# -- an order --------------------------------------------------------------------------------------


@durable.orchestrator(name="shop.order_fulfilment")
async def order_fulfilment(ctx, order_id):
    """Reserve, charge, have dear orders approved, send, and see the parcel arrive.

    Or take everything back.

    What customers and banks decide is an outcome ("cancelled"). What breaks is a failure:
    everything is taken back as well, and when the cause is gone the orchestration can be rewound.
    """
    order = await ctx.call(do.describe_order.s(order_id))
    try:
        parcel = await acquire_and_send(ctx, order)
    except (CardDeclined, OutOfStock, NotApproved) as error:
        return await call_off(ctx, order_id, f"{error}")
    except asyncio.CancelledError:
        await call_off(ctx, order_id, "cancelled on request")
        raise
    except Exception as error:
        await call_off(ctx, order_id, f"something broke: {type(error).__name__}")
        raise
    show_stage(ctx, 5, "on its way")
    await ctx.call(track_shipment.s(parcel, order_id).set(task_id=f"parcel-{parcel}"))
    await ctx.call(do.note_order.s(order_id, "delivered"), retry=STUBBORN)
    show_stage(ctx, 6, "delivered")
    return {"state": "delivered", "parcel": parcel}


async def acquire_and_send(ctx, order):
    """Do what can be undone; if this is left by an exception it is undone, last thing first."""
    reference, order_id = order["reference"], order["id"]
    async with ctx.saga(retry=STUBBORN) as saga:
        show_stage(ctx, 1, "being put aside")
        reservations = [
            saga.call(
                do.reserve_stock.s(reference, sku, quantity),
                undo=do.release_stock.si(reference, sku),
                retry=PATIENT,
                label=f"reserve {sku}",
            )
            for sku, quantity in order["lines"]
        ]
        # so that none is still under way when others are undone
        await ctx.all(reservations, fail_fast=False)

        show_stage(ctx, 2, "being paid")
        await saga.call(
            do.charge_order.s(order_id), undo=do.refund_order.si(reference), retry=PATIENT
        )

        if order["needs_approval"]:
            show_stage(ctx, 3, "waiting for approval")
            await ctx.call(approval.s(order_id).set(task_id=f"approval-{order_id}"))

        show_stage(ctx, 4, "being packed")
        parcel = await saga.call(
            do.send_parcel.s(reference), undo=do.recall_parcel.si(reference), retry=PATIENT
        )
        await ctx.call(do.note_order.s(order_id, "shipped", parcel=parcel), retry=STUBBORN)
    return parcel


async def call_off(ctx, order_id, why):
    """Tell the customer; everything has been undone already."""
    await ctx.call(do.note_order.s(order_id, "cancelled", note=why), retry=STUBBORN)
    ctx.set_status({"stage": "cancelled", "note": why, "done": 0, "of": 6})
    return {"state": "cancelled", "why": why}


def show_stage(ctx, done, stage):
    ctx.set_status({"stage": stage, "done": done, "of": 6})


@durable.orchestrator(name="shop.approval")
async def approval(ctx, order_id):
    """Ask a human by a letter with a signed link; remind after a day, give up after two."""
    expires = ctx.now() + 2 * DAY
    await ctx.call(
        do.ask_for_approval.s(order_id, ctx.instance_id, expires.isoformat(), "please"),
        retry=STUBBORN,
    )
    try:
        answer = await ctx.wait_event("decision", timeout=DAY)
    except TimeoutError:
        await ctx.call(
            do.ask_for_approval.s(order_id, ctx.instance_id, expires.isoformat(), "reminder"),
            retry=STUBBORN,
        )
        try:
            answer = await ctx.wait_event(
                "decision", timeout=max(expires - ctx.now(), timedelta(0))
            )
        except TimeoutError:
            raise NotApproved("no one has approved it in time")
    if not answer["approved"]:
        raise NotApproved("declined by the shop")
    return answer


LOOKS_PER_LIFE = 10
LONGEST_WAIT = timedelta(days=1)


@durable.orchestrator(name="shop.track_shipment")
async def track_shipment(ctx, parcel, order_id, wait=None, looks=0):
    """Look where a parcel is, ever less often, until it has arrived.

    The carrier's call wins the race if it comes.

    Each life is a few looks long, so history stays short even if the parcel takes months.
    """
    wait = wait if wait is not None else (DAY / 24).total_seconds()
    for _ in range(LOOKS_PER_LIFE):
        looks += 1
        if await ctx.call(do.locate_parcel.s(parcel), retry=STUBBORN) == "delivered":
            return {"parcel": parcel, "looks": looks, "told": "by looking"}
        ctx.set_status({"looks": looks, "next": wait})
        try:
            news = await ctx.wait_event("carrier", timeout=wait)
        except TimeoutError:
            wait = min(wait * 1.5, LONGEST_WAIT.total_seconds())
            continue
        if news["state"] == "delivered":
            return {"parcel": parcel, "looks": looks, "told": "by the carrier"}
    ctx.continue_as_new(parcel, order_id, wait, looks)


@durable.orchestrator(name="shop.refund")
async def refund(ctx, order_id):
    """Give the money back for an order that has arrived.

    Its id is the order's: however often it is asked for, there is one.
    """
    order = await ctx.call(do.describe_order.s(order_id))
    count = await ctx.call(do.refund_order.s(order["reference"]), retry=STUBBORN)
    await ctx.call(do.note_order.s(order_id, "refunded"), retry=STUBBORN)
    return {"refunded": count}


# -- once a month ----------------------------------------------------------------------------------

SLICE = 250


@durable.orchestrator(name="shop.monthly_invoices")
async def monthly_invoices(ctx, month, window=50, tolerate=0.05):
    """Write an invoice for every customer, ``window`` at a time.

    A share of them may fail, and is listed at the end.
    """
    customers = await ctx.call(do.customers_of.s(month))
    allowed, failed, written = int(tolerate * len(customers)), {}, 0
    for begin in range(0, len(customers), SLICE):
        ctx.set_status({"done": begin, "of": len(customers), "failed": len(failed)})
        part = customers[begin : begin + SLICE]
        outcomes = await ctx.map(
            do.write_invoice.s(month), part, concurrency=window, tolerate=allowed - len(failed)
        )
        failed |= {
            customer: f"{o}"
            for customer, o in zip(part, outcomes, strict=True)
            if isinstance(o, Exception)
        }
        written += sum(not isinstance(outcome, Exception) for outcome in outcomes)
    ctx.set_status({"done": len(customers), "of": len(customers), "failed": len(failed)})
    summary = {"month": month, "written": written, "failed": failed}
    await ctx.call(do.send_summary.s(summary), retry=STUBBORN)
    return summary


# -- for years -------------------------------------------------------------------------------------

DUNNING = (timedelta(days=1), timedelta(days=3), timedelta(days=7))


@durable.orchestrator(name="shop.subscription")
async def subscription(ctx, subscription_id, since=None, month=0, plan=None, paused=False):
    """Charge each month at the customer's own time of day, until it is cancelled or no one pays.

    One life is a month.
    """
    terms = await ctx.call(do.describe_subscription.s(subscription_id))
    since, plan = since or ctx.now().isoformat(), plan or terms["plan"]
    # in ctx.run, so that what this machine knows of time zones is recorded, and a newer table
    # changes no history
    due = datetime.fromisoformat(await ctx.run(due_of, since, month, terms["time_zone"]))
    state = {"plan": plan, "paused": paused, "month": month, "next": due.isoformat()}
    end = await changes(ctx, subscription_id, state, until=due)
    if end is None and not state["paused"]:
        end = await collect(ctx, subscription_id, state, due)
    if end is not None:
        await ctx.call(do.note_subscription.s(subscription_id, "ended", note=end), retry=STUBBORN)
        return {"months": month, "ended": end}
    ctx.continue_as_new(subscription_id, since, month + 1, state["plan"], state["paused"])


def due_of(since, months, zone):
    """Return when a month is due, in UTC: the day and the time of day of the beginning, on the
    customer's clock.
    """
    begin = datetime.fromisoformat(since).astimezone(ZoneInfo(zone))
    years, month = divmod(begin.month - 1 + months, 12)
    year, month = begin.year + years, month + 1
    day = min(begin.day, calendar.monthrange(year, month)[1])
    return (
        begin.replace(year=year, month=month, day=day, fold=0)
        .astimezone(ZoneInfo("UTC"))
        .isoformat()
    )


async def changes(ctx, subscription_id, state, until):
    """Heed the customer's changes until a time; return why it ends, or None if it continues."""
    while True:
        ctx.set_status(dict(state))
        try:
            change = await ctx.wait_event("change", timeout=max(until - ctx.now(), timedelta(0)))
        except TimeoutError:
            return None
        if change["to"] == "cancel":
            return "cancelled"
        if change["to"] == "plan":
            state["plan"] = change["plan"]
        else:
            state["paused"] = change["to"] == "pause"
        kept = "paused" if state["paused"] else "active"
        await ctx.call(
            do.note_subscription.s(subscription_id, kept, plan=state["plan"]), retry=STUBBORN
        )


async def collect(ctx, subscription_id, state, due):
    """Charge for a month; if the card is declined ask for another one, and try again a few times.

    Return as ``changes`` does.
    """
    for wait in (*DUNNING, None):
        try:
            await ctx.call(
                do.charge_month.s(subscription_id, f"{due:%Y-%m}", state["plan"]), retry=PATIENT
            )
            return None
        except CardDeclined:
            if wait is None:
                return "it was not paid"
        await ctx.call(
            do.send_dunning.s(subscription_id, f"{due:%Y-%m}", wait.days), retry=STUBBORN
        )
        if (end := await changes(ctx, subscription_id, state, until=ctx.now() + wait)) is not None:
            return end
