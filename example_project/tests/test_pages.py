"""The pages: what they show to whom, and what they refuse. A refusal changes nothing."""

import json
import uuid

import pytest
from django.test import Client

from config.celery import durable
from fakes.models import Fault, switch_on
from shop.models import Order, Subscription

from .conftest import as_json

PAYMENTS = "Bearer payments-key-for-a-demonstration"
WAREHOUSE = "Bearer warehouse-key-for-a-demonstration"


@pytest.fixture
def as_ada(client, ada):
    client.force_login(ada.user)
    return client


@pytest.fixture
def as_bob(bob):
    client = Client()
    client.force_login(bob.user)
    return client


@pytest.fixture
def as_staff(world, django_user_model):
    client = Client()
    client.force_login(django_user_model.objects.get(username="staff"))
    return client


def form(**quantities):
    return {
        "checkout": str(uuid.uuid4()),
        **{f"quantity-{sku}": n for sku, n in quantities.items()},
    }


def test_an_order_is_placed_by_the_form(world, as_ada):
    answer = as_ada.post("/checkout/", form(sencha=2, kettle=0))
    order = Order.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, order.get_absolute_url())
    assert order.total == 2800
    world.settle()
    page = as_ada.get(order.get_absolute_url())
    assert page.status_code == 200
    assert "on its way" in page.content.decode()
    progress = as_json(as_ada.get(f"{order.get_absolute_url()}progress"))
    assert (progress["stage"], progress["done"], progress["of"], progress["is_over"]) == (
        "on its way",
        5,
        6,
        False,
    )
    assert str(order) in as_ada.get("/orders/").content.decode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (form(sencha=-1), "greater than or equal to 0"),
        (form(sencha=21), "less than or equal to 20"),
        (form(sencha="many"), "whole number"),
        (form(sencha="1" * 5000), "whole number"),
        (form(unicorn=1), "We do not sell unicorn"),
        (form(sencha=1, unicorn=1), "We do not sell unicorn"),
        (form(), "Choose at least one product"),
        ({"quantity-sencha": 1}, ""),
        ({"checkout": "not a uuid", "quantity-sencha": 1}, ""),
    ],
)
def test_a_form_that_makes_no_sense_orders_nothing(world, as_ada, data, words):
    answer = as_ada.post("/checkout/", data)
    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not Order.objects.exists()
    assert not durable.find().items


def test_a_form_that_is_sent_twice_orders_once(world, as_ada, as_bob):
    data = form(sencha=1)
    first, second = (as_ada.post("/checkout/", data) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert as_bob.post("/checkout/", data).status_code == 409
    assert Order.objects.count() == 1


def test_an_order_is_its_customers_own(world, order_of, as_bob, as_staff, client):
    address = order_of(sencha=1).get_absolute_url()
    for path in (address, f"{address}progress"):
        assert as_bob.get(path).status_code == 404
        assert client.get(path).status_code == 302, "log in first"
        assert as_staff.get(path).status_code == 200
    for path in (f"{address}cancel/", f"{address}return/"):
        assert as_bob.post(path).status_code == 404
        assert client.post(path)["Location"].startswith("/login/")
        assert as_bob.get(path).status_code == 405
    assert as_bob.get("/orders/99999/").status_code == 404
    assert as_bob.get("/orders/-1/").status_code == 404
    assert not durable.find(id_prefix="refund-").items


def test_an_order_that_is_on_its_way_is_neither_cancelled_nor_returned(world, order_of, as_ada):
    order = order_of(sencha=1)
    world.settle()
    for verb, words in (
        ("cancel", "too late to cancel"),
        ("return", "Only an order that has arrived"),
    ):
        answer = as_ada.post(f"{order.get_absolute_url()}{verb}/", follow=True)
        assert words in answer.content.decode()
    order.refresh_from_db()
    assert order.state == "shipped"


def test_an_order_is_cancelled_on_its_page(world, order_of, as_ada):
    order = order_of(espresso=1)
    world.settle()
    as_ada.post(f"{order.get_absolute_url()}cancel/")
    world.settle()
    order.refresh_from_db()
    assert order.state == "cancelled"
    assert "cancelled by ada" in str(durable.get(order.reference).reason)


def test_the_page_of_an_order_whose_orchestration_is_purged(world, order_of, as_ada):
    order = order_of(sencha=1)
    world.settle()
    world.deliver(order)
    world.settle()
    durable.get(order.reference).purge()
    assert as_json(as_ada.get(f"{order.get_absolute_url()}progress"))["stage"] == "delivered"


@pytest.mark.parametrize(
    "path",
    [
        "/checkout/",
        "/orders/1/cancel/",
        "/orders/1/return/",
        "/subscriptions/new/",
        "/subscriptions/1/change/",
    ],
)
def test_forms_without_csrf_token_are_refused(world, ada, order_of, path):
    order_of(espresso=1)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada.user)
    assert strict.post(path, form(sencha=1) | {"plan": "beans", "to": "cancel"}).status_code == 403
    assert Order.objects.count() == 1
    assert not Subscription.objects.exists()


def test_a_subscription_is_made_changed_and_ended(world, as_ada, as_bob):
    assert as_ada.post("/subscriptions/new/", {"plan": "beans"}).status_code == 302
    found = Subscription.objects.get()
    change = f"/subscriptions/{found.pk}/change/"
    assert as_bob.post(change, {"to": "cancel"}).status_code == 404
    for data in ({}, {"to": "nothing"}, {"to": "plan"}, {"to": "plan", "plan": "gold"}):
        assert as_ada.post(change, data).status_code == 400
    as_ada.post(change, {"to": "pause"})
    world.settle()
    found.refresh_from_db()
    assert found.state == "paused"
    as_ada.post(change, {"to": "cancel"})
    world.settle()
    found.refresh_from_db()
    assert found.state == "ended"
    assert "has ended" in as_ada.post(change, {"to": "resume"}, follow=True).content.decode()
    assert as_ada.post("/subscriptions/new/", {"plan": "gold"}).status_code == 400


def test_letters_and_faults_are_for_the_staff(world, as_ada, as_staff, client):
    for path in ("/letters/", "/faults/"):
        assert as_staff.get(path).status_code == 200
        assert as_ada.get(path).status_code == 302
        assert client.get(path).status_code == 302
    assert as_ada.post("/faults/on/", {"service": "payments", "kind": "down"}).status_code == 302
    assert not Fault.objects.exists()
    assert (
        as_staff.post("/faults/on/", {"service": "payments", "kind": "nonsense"}).status_code == 400
    )
    for left in ("3", "2"):
        assert (
            as_staff.post(
                "/faults/on/", {"service": "payments", "kind": "down", "left": left}
            ).status_code
            == 302
        )
    assert Fault.objects.get().left == 2
    as_staff.post("/faults/off/", {"service": "payments", "kind": "down"})
    assert not Fault.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "payments/charges", {}, {}, 401),
        ("POST", "payments/charges", {}, {"Authorization": "Bearer wrong"}, 401),
        ("GET", "payments/charges", {}, {}, 405),
        ("POST", "payments/charges", "{", {"Authorization": PAYMENTS}, 400),
        ("POST", "payments/charges", {"reference": "x"}, {"Authorization": PAYMENTS}, 400),
        (
            "PUT",
            "warehouse/reservations/o/sencha",
            {"quantity": -1},
            {"Authorization": WAREHOUSE},
            400,
        ),
        ("GET", "warehouse/parcels/P1", None, {"Authorization": WAREHOUSE}, 404),
    ],
)
def test_the_services_refuse_what_makes_no_sense(
    world, client, method, path, body, headers, status
):
    data = body if isinstance(body, str) else json.dumps(body or {})
    answer = client.generic(method, f"/fakes/{path}", data, "application/json", headers=headers)
    assert answer.status_code == status


def test_the_staff_sees_what_is_behind_an_order(world, order_of, as_ada, as_staff):
    order = order_of(espresso=1)  # dear: it waits for an approval
    world.settle()
    page = as_staff.get(order.get_absolute_url()).content.decode()
    assert 'id="behind"' in page
    assert f"{order.reference}</a> is RUNNING" in page
    assert f"customer={order.customer.pk}" in page
    assert f"approval-{order.pk} waits for event <code>decision</code>" in page
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="durable-timeline"' in page
    assert b".durable-timeline" in as_staff.get("/timeline.css").content
    assert 'id="behind"' not in as_ada.get(order.get_absolute_url()).content.decode()


def test_the_staff_sees_what_failed(world, order_of, as_staff):
    switch_on("payments", Fault.Kind.REFUSE)
    order = order_of(sencha=1)
    world.settle()
    page = as_staff.get(order.get_absolute_url()).content.decode()
    assert 'id="failure"' in page
    assert "<strong>shop.activities.charge_order</strong> failed" in page
    assert "frames of libraries" in page
    assert "Rewind" in page


def test_orders_are_counted_by_state(world, order_of, as_ada):
    for _ in range(2):
        order_of(sencha=1)
    page = as_ada.get("/orders/").content.decode()
    assert "placed <strong>2</strong>" in page
