"""The services that the shop uses, over HTTP: what they refuse is an exception of its own, and so
is what they do not answer.
"""

import http.client
import json
import urllib.error
import urllib.request
from urllib.parse import quote

from django.conf import settings

from celery_durable import ActivityTimeout

TIMEOUT = 5.0  # seconds


class CardDeclined(Exception):
    """The bank says no; asking again does not help."""


class OutOfStock(Exception):
    """There are not so many."""


class ServiceDown(ConnectionError):
    """The service did nothing, and may do it later."""


class Refused(Exception):
    """The service does not understand us, or does not let us in: someone has to look."""


class NoAnswer(ActivityTimeout):
    """No one knows whether the service did it.

    A saga undoes that, as it undoes whatever ran out of time.
    """


def over_http(method, path, body, headers):
    """Ask; return status and answer.

    Raises:
        ServiceDown: no connection could be made.
        NoAnswer: one was made, and then nothing came.
    """
    request = urllib.request.Request(f"{settings.SHOP_URL}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            raise ServiceDown(f"{path}: {error.reason}")
        raise NoAnswer(f"{path}: {error.reason}")
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise NoAnswer(f"{path}: {error}")


send = over_http  # tests put something else here


def ask(key, method, path, data=None, **headers):
    """Call a service and return its JSON."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
    body = None if data is None else json.dumps(data).encode()
    status, text = send(method, path, body, headers)
    if status == 503:
        raise ServiceDown(f"{method} {path}: 503")
    if status >= 500:
        raise NoAnswer(f"{method} {path}: {status}")
    answer = json.loads(text)
    if status >= 400:
        refuse(answer.get("error"), answer.get("message"))
    return answer


def refuse(error, message):
    if error == "card_declined":
        raise CardDeclined(message)
    if error == "out_of_stock":
        raise OutOfStock(message)
    if error == "withdrawn":
        raise ServiceDown(message)
    raise Refused(f"{error}: {message}")


# -- payments --------------------------------------------------------------------------------------


def charge(reference, amount, card, idempotency_key):
    """Take money. However often it is asked with one key, it is taken once."""
    data = {"reference": reference, "amount": amount, "card": card}
    answer = ask(
        settings.PAYMENTS_KEY,
        "POST",
        "/fakes/payments/charges",
        data,
        **{"Idempotency-Key": idempotency_key},
    )
    return answer["id"]


def refund(reference):
    """Give back what was taken, if anything was; return how many charges that were."""
    return ask(settings.PAYMENTS_KEY, "POST", "/fakes/payments/refunds", {"reference": reference})[
        "refunded"
    ]


# -- the warehouse ---------------------------------------------------------------------------------


def reserve(reference, sku, quantity):
    """Have something put aside; known by order and product, so it may be said twice."""
    ask(
        settings.WAREHOUSE_KEY,
        "PUT",
        f"/fakes/warehouse/reservations/{reference}/{sku}",
        {"quantity": quantity},
    )


def release(reference, sku):
    """Have it put back, if it was put aside."""
    ask(settings.WAREHOUSE_KEY, "DELETE", f"/fakes/warehouse/reservations/{reference}/{sku}")


def send_parcel(reference):
    """Have an order sent; return the number of its parcel."""
    return ask(settings.WAREHOUSE_KEY, "POST", "/fakes/warehouse/parcels", {"order": reference})[
        "number"
    ]


def recall_parcel(reference):
    """Have it brought back, if it was sent."""
    return ask(settings.WAREHOUSE_KEY, "POST", f"/fakes/warehouse/orders/{reference}/recall")[
        "recalled"
    ]


def parcel_state(number):
    """Return "on its way", "delivered" or "recalled"."""
    return ask(settings.WAREHOUSE_KEY, "GET", f"/fakes/warehouse/parcels/{quote(number)}")["state"]
