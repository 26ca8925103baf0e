"""The payment company's API: charges that are made once for each idempotency key, and refunds."""

from django.conf import settings
from django.db import transaction
from django.db.models import F

from fakes.api import Refusal, number, service, text
from fakes.models import Fault, is_on, is_withdrawn, withdraw

from .models import Charge


def key():
    return settings.PAYMENTS_KEY


@service("payments", key, ["POST"])
def charges(request, data):
    """Take money; a request with a known key finds what the first one did."""
    idempotency_key = text(request.headers, "Idempotency-Key", 200)
    reference, amount, card = text(data, "reference"), number(data, "amount"), text(data, "card")
    if card == "tok_declined" or is_on("payments", Fault.Kind.DECLINE):
        raise Refusal(402, "card_declined", "the bank declines this card")
    with transaction.atomic():
        charge, _ = Charge.objects.get_or_create(
            key=idempotency_key, defaults={"reference": reference, "amount": amount}
        )
        charge = Charge.objects.select_for_update().get(pk=charge.pk)
        if (charge.reference, charge.amount) != (reference, amount):
            raise Refusal(409, "key_reused", "this idempotency key belongs to another charge")
        charge.requests += 1
        if not charge.taken and is_withdrawn(f"charge {reference}"):
            raise Refusal(409, "withdrawn", f"{reference} was refunded before this arrived")
        if not charge.is_paid:  # new, or refunded and wanted again
            charge.taken += 1
        charge.save()
    return 201, {"id": f"ch-{charge.pk}", "reference": reference, "amount": amount}


@service("payments", key, ["POST"])
def refunds(request, data):
    """Give back what was taken for a reference; harmless if nothing was."""
    reference = text(data, "reference")
    with transaction.atomic():
        count = Charge.objects.filter(reference=reference, taken__gt=F("returned")).update(
            returned=F("returned") + 1
        )
        if not count:
            withdraw(f"charge {reference}")
    return 200, {"reference": reference, "refunded": count}
