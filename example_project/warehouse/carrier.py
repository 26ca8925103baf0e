"""What the carrier says by itself: a signed call to the shop when a parcel arrives.

Sometimes two, sometimes none.
"""

import contextlib
import hashlib
import hmac
import json
import threading
import urllib.error
import urllib.request

from django.conf import settings
from django.db import close_old_connections

from fakes.models import Fault, is_on

from .models import Parcel


def sign(body):
    """Return the signature of a call: the shop knows the secret, too."""
    return (
        "sha256="
        + hmac.new(settings.WAREHOUSE_WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    )


def message(parcel):
    return json.dumps(
        {"id": f"{parcel.number}-delivered", "parcel": parcel.number, "state": "delivered"}
    ).encode()


def announce_later(parcel):
    """Announce the arrival when the time has come.

    If this process is restarted meanwhile, the call is lost: that happens.
    """
    timer = threading.Timer(
        settings.WAREHOUSE_DELIVERY_DAYS * settings.SHOP_DAY, announce, [parcel.number]
    )
    timer.daemon = True
    timer.start()


def announce(number):
    """Call the shop: the parcel is there."""
    close_old_connections()
    try:
        parcel = Parcel.objects.filter(number=number).first()
        if (
            parcel is None
            or parcel.state != "delivered"
            or is_on("warehouse", Fault.Kind.LOST_CALLBACK)
        ):
            return
        for _ in range(2 if is_on("warehouse", Fault.Kind.DUPLICATE_CALLBACK) else 1):
            send(message(parcel))
    finally:
        close_old_connections()


def send(body):
    headers = {"Content-Type": "application/json", "X-Signature": sign(body)}
    request = urllib.request.Request(f"{settings.SHOP_URL}/webhooks/carrier/", body, headers)
    # a carrier that does not try again
    with contextlib.suppress(urllib.error.URLError, TimeoutError):
        urllib.request.urlopen(request, timeout=10).close()
