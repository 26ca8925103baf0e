"""Activities: Celery tasks that touch the world.

Each may run again if its worker dies, and is made so that this does no harm.
"""

from datetime import datetime

from celery import shared_task
from django.conf import settings
from django.core.mail import send_mail
from django.db.models import Sum

from celery_durable import durable_context
from config.celery import durable

from . import gateways
from .letters import approval_letter, key_of_letter
from .models import PRICES, Customer, Invoice, Order, PaidMonth, Subscription

MEMBERSHIP = 5_00


# -- orders ----------------------------------------------------------------------------------------


@shared_task
def describe_order(order_id):
    """Return what an orchestration has to know of an order: no names, no cards."""
    order = Order.objects.get(pk=order_id)
    return {
        "id": order_id,
        "reference": order.reference,
        "lines": [[line.product_id, line.quantity] for line in order.lines.order_by("pk")],
        "total": order.total,
        "needs_approval": order.total > settings.SHOP_APPROVAL_LIMIT,
    }


@shared_task(throws=(gateways.OutOfStock,))
def reserve_stock(reference, sku, quantity):
    gateways.reserve(reference, sku, quantity)


@shared_task
def release_stock(reference, sku):
    gateways.release(reference, sku)


@shared_task(throws=(gateways.CardDeclined,))
def charge_order(order_id):
    """Take the money, once: the payment company knows by the key that a second request is the same
    one.
    """
    order = Order.objects.select_related("customer").get(pk=order_id)
    return gateways.charge(
        order.reference, order.total, order.customer.card, durable_context().idempotency_key
    )


@shared_task
def refund_order(reference):
    return gateways.refund(reference)


@shared_task
def send_parcel(reference):
    return gateways.send_parcel(reference)


@shared_task
def recall_parcel(reference):
    return gateways.recall_parcel(reference)


@shared_task
def locate_parcel(number):
    return gateways.parcel_state(number)


@shared_task
@durable.transactional(using="default")
def note_order(order_id, state, note="", parcel=""):
    """Note how far an order is, and tell its customer: rows, letter and outcome are one commit, so
    this happens once.
    """
    order = Order.objects.select_related("customer").get(pk=order_id)
    order.state, order.note, order.parcel = state, note, parcel or order.parcel
    order.save()
    if order.customer.email:
        because = f" ({note})" if note else ""
        mail(
            order.customer.email,
            f"{order} is {state}",
            f"Dear {order.customer}, {order} is {state}{because}.",
        )


@shared_task
def ask_for_approval(order_id, instance_id, expires, occasion):
    """Write to those who approve, with a link that works once."""
    order = Order.objects.select_related("customer").get(pk=order_id)
    subject = f"{order} over {order.total / 100:.2f} EUR needs your approval"
    if occasion == "reminder":
        subject = f"Reminder: {subject}"
    mail(
        settings.SHOP_APPROVER,
        subject,
        approval_letter(order, instance_id, datetime.fromisoformat(expires)),
    )


# -- invoices --------------------------------------------------------------------------------------


@shared_task
def customers_of(month):
    """Return who gets an invoice."""
    return list(Customer.objects.order_by("pk").values_list("pk", flat=True))


class NoAddress(Exception):
    """No one knows where to send it."""


@shared_task
def write_invoice(customer_id, month):
    """Write the invoice of a month; there is one however often this runs."""
    customer = Customer.objects.get(pk=customer_id)
    if not customer.email:
        raise NoAddress(f"{customer} has no address")
    orders = customer.orders.filter(state="delivered", created_at__startswith=month).aggregate(
        Sum("total")
    )
    amount = MEMBERSHIP + (orders["total__sum"] or 0)
    invoice, _ = Invoice.objects.get_or_create(
        customer=customer, month=month, defaults={"amount": amount}
    )
    return invoice.amount


@shared_task
def send_summary(summary):
    month, failed = summary["month"], summary["failed"]
    body = "\n".join(
        [f"{summary['written']} invoices are written, {len(failed)} are not.", *failed.values()]
    )
    mail("bookkeeping@shop.example", f"Invoices of {month}", body)


# -- subscriptions ---------------------------------------------------------------------------------


@shared_task
def describe_subscription(subscription_id):
    found = Subscription.objects.select_related("customer").get(pk=subscription_id)
    return {"plan": found.plan, "time_zone": found.customer.time_zone}


@shared_task(throws=(gateways.CardDeclined,))
def charge_month(subscription_id, month, plan):
    """Charge for a month, once."""
    found = Subscription.objects.select_related("customer").get(pk=subscription_id)
    reference = f"{found.reference}/{month}"
    gateways.charge(reference, PRICES[plan], found.customer.card, durable_context().idempotency_key)
    PaidMonth.objects.get_or_create(
        subscription=found, month=month, defaults={"amount": PRICES[plan]}
    )


@shared_task
@durable.transactional(using="default")
def note_subscription(subscription_id, state, plan=None, note=""):
    changed = {"state": state, "note": note, **({"plan": plan} if plan else {})}
    Subscription.objects.filter(pk=subscription_id).update(**changed)


@shared_task
def send_dunning(subscription_id, month, days):
    found = Subscription.objects.select_related("customer").get(pk=subscription_id)
    body = f"Your card was declined for {found} in {month}. We try again in {days} days."
    mail(found.customer.email, "Your card was declined", body)


def mail(to, subject, body):
    """Send a letter once, also if the activity that sends it runs twice."""
    with key_of_letter(durable_context().idempotency_key):
        send_mail(subject, body, None, [to])
