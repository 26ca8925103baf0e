"""The shop in one process: activities and turns run when a test says so, services are called as
views, and time is the test's.
"""

import json
import re
import uuid

import pytest
from django.test import Client

from shop import gateways, seed
from shop.models import Customer, Product
from shop.views import place_order
from warehouse import carrier, views
from warehouse.models import Parcel


class World:
    """What happens outside of the shop."""

    def __init__(self, client, env):
        self.settle, self.advance, self.env = env.run_until_idle, env.advance, env
        self.calls = []
        self._client = client

    def send(self, method, path, body, headers):
        """Call a service: its view, without a network between."""
        answer = self._client.generic(
            method, path, body or b"", "application/json", headers=headers
        )
        return answer.status_code, answer.content

    def call_the_shop(self, body):
        headers = {"X-Signature": carrier.sign(body)}
        answer = self._client.post("/webhooks/carrier/", body, "application/json", headers=headers)
        self.calls.append(answer.status_code)

    def deliver(self, order):
        """Let an order's parcel arrive, and the carrier say so; return what the shop answered."""
        self.calls.clear()
        Parcel.objects.filter(order=order.reference).update(sent_at="2020-01-01T00:00:00Z")
        carrier.announce(Parcel.objects.get(order=order.reference).number)
        return list(self.calls)


@pytest.fixture
def world(durable_env, settings, monkeypatch):
    """Give a shop whose shelves are full, and which no one has ordered from."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.EMAIL_BACKEND = "shop.letters.Outbox"  # pytest-django would keep mails in memory
    seed.seed(customers=0)
    it = World(Client(raise_request_exception=False), durable_env)
    monkeypatch.setattr(gateways, "send", it.send)
    monkeypatch.setattr(carrier, "send", it.call_the_shop)
    monkeypatch.setattr(carrier, "close_old_connections", lambda: None)
    monkeypatch.setattr(views, "announce_later", lambda parcel: None)
    return it


@pytest.fixture
def ada(world):
    return Customer.objects.get(name="Ada")


@pytest.fixture
def bob(world):
    """Give a customer whose card is declined."""
    return Customer.objects.get(name="Bob")


@pytest.fixture
def products(world):
    return Product.objects.in_bulk()


@pytest.fixture
def order_of(ada, products):
    """Place orders, as the checkout does: ``order_of(sencha=2)``."""

    def place(customer=None, **quantities):
        lines = [(products[sku], quantity) for sku, quantity in quantities.items()]
        return place_order(customer or ada, uuid.uuid4(), lines)

    return place


def link_in(letter):
    """Return the path of the link in a letter."""
    return re.search(r"https?://[^/]+(/\S+)", letter.body)[1]


def as_json(answer):
    return json.loads(answer.content)
