"""The warehouse's API: put aside, put back, send, recall, and tell where a parcel is."""

from django.conf import settings
from django.db import transaction
from django.db.models import F

from fakes.api import Refusal, number, service, text
from fakes.models import Fault, is_on, is_withdrawn, withdraw

from .carrier import announce_later
from .models import Parcel, Reservation, Shelf


def key():
    return settings.WAREHOUSE_KEY


@service("warehouse", key, ["PUT", "DELETE"])
def reservation(request, data, order, sku):
    """Put aside, or put back; either may be said twice."""
    with transaction.atomic():
        there = Reservation.objects.select_for_update().filter(order=order, sku=sku).first()
        if request.method == "DELETE":
            return put_back(there, f"reserve {order} {sku}")
        quantity = number(data, "quantity")
        if there is not None and there.is_active:
            return 200, {"sku": sku, "quantity": there.quantity}
        if there is None and is_withdrawn(f"reserve {order} {sku}"):
            raise Refusal(409, "withdrawn", f"{sku} for {order} was put back before this arrived")
        if not Shelf.objects.filter(sku=sku, quantity__gte=quantity).update(
            quantity=F("quantity") - quantity
        ):
            raise Refusal(409, "out_of_stock", f"there are not {quantity} of {sku}")
        Reservation.objects.update_or_create(
            order=order, sku=sku, defaults={"quantity": quantity, "is_active": True}
        )
    return 201, {"sku": sku, "quantity": quantity}


def put_back(there, what):
    if there is None:
        withdraw(what)
    elif there.is_active:
        Shelf.objects.filter(sku=there.sku).update(quantity=F("quantity") + there.quantity)
        there.is_active = False
        there.save()
    return 200, {}


@service("warehouse", key, ["POST"])
def parcels(request, data):
    """Send what is put aside for an order.

    Its parcel has the same number however often this is asked.
    """
    order = text(data, "order", 50)
    if is_on("warehouse", Fault.Kind.REFUSE_PARCELS):
        raise Refusal(422, "not_today", "no parcels are sent today")
    if is_withdrawn(f"send {order}"):
        raise Refusal(409, "withdrawn", f"the parcel of {order} was recalled before this arrived")
    if not Reservation.objects.filter(order=order, is_active=True).exists():
        raise Refusal(409, "nothing_reserved", f"nothing is put aside for {order}")
    parcel, is_new = Parcel.objects.get_or_create(order=order)
    if parcel.is_recalled:
        parcel.is_recalled, is_new = False, True
        parcel.save()
    if is_new:
        announce_later(parcel)
    return 201, {"number": parcel.number}


@service("warehouse", key, ["GET"])
def parcel(request, data, number):
    there = Parcel.objects.filter(number=number).first()
    if there is None:
        raise Refusal(404, "unknown_parcel", f"there is no parcel {number}")
    return 200, {"number": there.number, "state": there.state}


@service("warehouse", key, ["POST"])
def recall(request, data, order):
    """Bring a parcel back, if one was sent."""
    count = Parcel.objects.filter(order=order).update(is_recalled=True)
    if not count:
        withdraw(f"send {order}")
    return 200, {"recalled": count}
