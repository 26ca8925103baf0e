"""Orders: each way in which they can go."""

import json
import uuid
from datetime import timedelta

import pytest

from celery_durable import RuntimeStatus
from celery_durable.contrib.django.models import InboxMessage
from config.celery import durable
from fakes.models import Fault, Withdrawal, switch_off, switch_on
from payments.models import Charge
from shop.models import Letter, Order
from shop.views import place_order
from warehouse.models import Parcel, Reservation, Shelf

from .conftest import link_in


def run_of(order):
    return durable.get(order.reference)


def stages(order):
    return run_of(order).custom_status["stage"]


def test_an_order_is_put_aside_paid_sent_and_delivered(world, order_of):
    order = order_of(sencha=2, kettle=1)
    world.settle()
    order.refresh_from_db()
    assert (order.state, stages(order)) == ("shipped", "on its way")
    assert dict(Shelf.objects.values_list("sku", "quantity")) | {
        "sencha": 498,
        "kettle": 99,
    } == dict(Shelf.objects.values_list("sku", "quantity"))
    world.deliver(order)
    world.settle()
    order.refresh_from_db()
    assert order.state == "delivered"
    assert run_of(order).output == {"state": "delivered", "parcel": order.parcel}
    charge = Charge.objects.get(reference=order.reference)
    assert (charge.amount, charge.taken, charge.returned) == (order.total, 1, 0)
    assert list(Letter.objects.order_by("pk").values_list("subject", flat=True)) == [
        f"{order} is shipped",
        f"{order} is delivered",
    ]


def test_workers_may_die_at_any_moment(world, order_of):
    def scenario(env):
        order = order_of(sencha=2, kettle=1)
        env.run_until_idle()
        answers = world.deliver(order)
        env.run_until_idle()
        order.refresh_from_db()
        charge = Charge.objects.get(reference=order.reference)
        letters = Letter.objects.order_by("pk").values_list("subject", flat=True)
        subjects = [letter.removeprefix(str(order)) for letter in letters]
        shelves = dict(Shelf.objects.values_list("sku", "quantity"))
        return order.state, answers, charge.amount - charge.returned, subjects, shelves

    assert world.env.crash_everywhere(scenario) > 20
    assert not Order.objects.exists()


def test_a_declined_card_puts_everything_back(world, order_of, bob):
    order = order_of(bob, sencha=2)
    world.settle()
    order.refresh_from_db()
    assert run_of(order).output == {"state": "cancelled", "why": "the bank declines this card"}
    assert (order.state, order.note) == ("cancelled", "the bank declines this card")
    assert Shelf.objects.get(pk="sencha").quantity == 500
    assert not Charge.objects.exists()


def test_what_is_not_there_cancels_the_whole_order(world, order_of):
    order = order_of(sencha=1, siphon=2)
    world.settle()
    assert run_of(order).output["state"] == "cancelled"
    assert Shelf.objects.get(pk="sencha").quantity == 500
    assert Shelf.objects.get(pk="siphon").quantity == 1
    assert not Charge.objects.exists()


def test_a_service_that_is_down_is_asked_again(world, order_of):
    switch_on("payments", Fault.Kind.DOWN, 3)
    order = order_of(sencha=1)
    world.advance(timedelta(minutes=1))
    order.refresh_from_db()
    assert order.state == "shipped"


def test_a_charge_whose_answer_is_lost_is_not_made_twice(world, order_of):
    switch_on("payments", Fault.Kind.ERROR, 2)
    order = order_of(sencha=1)
    world.advance(timedelta(minutes=1))
    charge = Charge.objects.get(reference=order.reference)
    assert (charge.requests, charge.taken, charge.is_paid) == (3, 1, True)


def test_a_charge_that_nobody_knows_of_is_paid_back(world, order_of):
    switch_on("payments", Fault.Kind.ERROR)  # it charges, and answers 500, for ever
    order = order_of(sencha=1)
    world.advance(timedelta(minutes=10))
    assert run_of(order).runtime_status is RuntimeStatus.RUNNING, (
        "the refund is not answered either"
    )
    switch_off("payments", Fault.Kind.ERROR)
    world.advance(timedelta(hours=2))
    order.refresh_from_db()
    charge = Charge.objects.get(reference=order.reference)
    assert run_of(order).runtime_status is RuntimeStatus.FAILED
    assert (charge.taken, charge.returned, order.state) == (1, 1, "cancelled")
    assert Shelf.objects.get(pk="sencha").quantity == 500


def test_a_failed_order_is_rewound(world, order_of):
    switch_on("warehouse", Fault.Kind.REFUSE, 1)
    order = order_of(sencha=1)
    world.settle()
    assert run_of(order).runtime_status is RuntimeStatus.FAILED
    run_of(order).rewind(reason="the key was renewed")
    world.settle()
    order.refresh_from_db()
    assert (order.state, run_of(order).runtime_status) == ("shipped", RuntimeStatus.RUNNING)


def test_a_rewind_charges_again_what_was_paid_back(world, order_of):
    switch_on("warehouse", Fault.Kind.REFUSE_PARCELS)
    order = order_of(sencha=1)
    world.settle()
    charge = Charge.objects.get(reference=order.reference)
    assert (run_of(order).runtime_status, charge.returned) == (RuntimeStatus.FAILED, 1)
    switch_off("warehouse", Fault.Kind.REFUSE_PARCELS)
    run_of(order).rewind(reason="they send again")
    world.settle()
    order.refresh_from_db()
    assert order.state == "shipped"
    assert [charge.is_paid for charge in Charge.objects.order_by("pk")] == [False, True]
    assert Shelf.objects.get(pk="sencha").quantity == 499


def test_an_order_can_be_cancelled_while_it_waits(world, order_of):
    order = order_of(espresso=1)
    world.settle()
    assert stages(order) == "waiting for approval"
    run_of(order).cancel(reason="changed my mind")
    world.settle()
    order.refresh_from_db()
    charge = Charge.objects.get(reference=order.reference)
    assert run_of(order).runtime_status is RuntimeStatus.CANCELED
    assert (order.state, order.note, charge.is_paid) == ("cancelled", "cancelled on request", False)
    assert Shelf.objects.get(pk="espresso").quantity == 50


def test_what_was_taken_back_before_it_came_is_refused(world, order_of):
    from shop import gateways

    assert gateways.refund("order-9") == 0
    with pytest.raises(gateways.ServiceDown, match="refunded before"):
        gateways.charge("order-9", 100, "tok_visa", "a key")
    Withdrawal.objects.all().delete()  # a minute later
    assert gateways.charge("order-9", 100, "tok_visa", "a key").startswith("ch-")


# -- approval --------------------------------------------------------------------------------------


def approvals():
    return Letter.objects.filter(to="approvals@shop.example").order_by("pk")


@pytest.mark.parametrize(("choice", "state"), [("0", "shipped"), ("1", "cancelled")])
def test_a_dear_order_is_decided_by_the_link_in_a_letter(world, order_of, client, choice, state):
    order = order_of(espresso=1)
    world.settle()
    (letter,) = approvals()
    link = link_in(letter)
    assert client.get(link).status_code == 200
    world.settle()
    assert stages(order) == "waiting for approval", "looking decides nothing"
    assert client.post(link, {"choice": choice}).status_code == 200
    world.settle()
    order.refresh_from_db()
    assert order.state == state
    assert client.post(link, {"choice": choice}).status_code == 410, "it works once"
    assert Charge.objects.get().is_paid == (state == "shipped")


def test_nobody_decides_so_there_is_a_reminder_and_then_the_end(world, order_of, client):
    order = order_of(espresso=1)
    world.settle()
    world.advance(timedelta(days=1, minutes=1))
    first, second = approvals()
    assert second.subject == f"Reminder: {first.subject}"
    world.advance(timedelta(days=1))
    order.refresh_from_db()
    assert (order.state, order.note) == ("cancelled", "no one has approved it in time")
    assert not Charge.objects.get().is_paid
    assert client.post(link_in(first), {"choice": "0"}).status_code == 410


def test_the_link_of_the_reminder_is_for_the_same_decision(world, order_of, client):
    order_of(espresso=1)
    world.settle()
    world.advance(timedelta(days=1, minutes=1))
    first, second = approvals()
    assert client.post(link_in(second), {"choice": "0"}).status_code == 200
    assert client.post(link_in(first), {"choice": "1"}).status_code == 410


def test_a_link_that_was_changed_is_refused(world, order_of, client):
    order = order_of(espresso=1)
    world.settle()
    link = link_in(approvals()[0])
    assert client.post(f"{link[:-3]}abc", {"choice": "0"}).status_code in (400, 403, 404)
    assert client.post(link, {"choice": "7"}).status_code == 400
    world.settle()
    assert stages(order) == "waiting for approval"


# -- tracking --------------------------------------------------------------------------------------


@pytest.fixture
def sent(world, order_of):
    order = order_of(sencha=1)
    world.settle()
    order.refresh_from_db()
    return order


def tracking(order):
    return durable.get(f"parcel-{order.parcel}")


def test_the_carriers_call_wins_the_race(world, sent):
    world.deliver(sent)
    world.settle()
    assert tracking(sent).output == {"parcel": sent.parcel, "looks": 1, "told": "by the carrier"}


def test_a_lost_call_is_found_out_by_looking(world, sent):
    switch_on("warehouse", Fault.Kind.LOST_CALLBACK)
    world.deliver(sent)
    world.advance(timedelta(hours=2))
    assert tracking(sent).output["told"] == "by looking"


def test_a_call_that_comes_twice_counts_once(world, sent):
    switch_on("warehouse", Fault.Kind.DUPLICATE_CALLBACK)
    assert world.deliver(sent) == [204, 204]
    assert (
        InboxMessage.objects.filter(instance=f"parcel-{sent.parcel}", name="carrier").count() == 1
    )
    world.settle()
    sent.refresh_from_db()
    assert sent.state == "delivered"
    assert Letter.objects.filter(subject=f"{sent} is delivered").count() == 1


def test_a_parcel_that_takes_long_is_looked_for_ever_less_often(world, sent):
    world.advance(timedelta(days=20))
    run = tracking(sent)
    looks = run.custom_status["looks"]
    assert 20 < looks < 40
    assert len(run.history()) < 60, "history began again"
    assert run.custom_status["next"] == 86400
    world.deliver(sent)
    world.settle()
    assert run.refresh().output["looks"] == looks


def test_money_is_given_back_once(world, sent, client, ada):
    world.deliver(sent)
    world.settle()
    client.force_login(ada.user)
    for _ in range(2):
        assert client.post(f"/orders/{sent.pk}/return/").status_code == 302
        world.settle()
    charge = Charge.objects.get()
    sent.refresh_from_db()
    assert (charge.returned, sent.state) == (1, "refunded")
    assert Letter.objects.filter(subject=f"{sent} is refunded").count() == 1


# -- the transaction -------------------------------------------------------------------------------


def test_a_checkout_that_is_rolled_back_leaves_neither_order_nor_orchestration(
    world, ada, products
):
    from django.db import transaction

    class Broken(Exception):
        pass

    with pytest.raises(Broken), transaction.atomic():
        reference = place_order(ada, uuid.uuid4(), [(products["sencha"], 1)]).reference
        raise Broken
    world.settle()
    assert not Order.objects.exists()
    assert not durable.find(id_prefix=reference).items
    assert not Reservation.objects.exists()


def test_a_checkout_that_is_sent_twice_orders_once(world, ada, products):
    form = uuid.uuid4()
    first, second = (place_order(ada, form, [(products["sencha"], 1)]) for _ in range(2))
    world.settle()
    assert first == second
    assert durable.count(name="shop.order_fulfilment") == 1
    assert Parcel.objects.count() == 1


def test_the_webhook_believes_only_the_carrier(world, sent, client):
    from warehouse.carrier import message, sign

    body = message(Parcel.objects.get())

    def call(body, signature):
        headers = {"X-Signature": signature} if signature else {}
        return client.post(
            "/webhooks/carrier/", body, content_type="application/json", headers=headers
        ).status_code

    assert call(body, None) == 403
    assert call(body, "sha256=" + "0" * 64) == 403
    assert call(body, sign(body + b" ")) == 403
    assert call(b"{", sign(b"{")) == 400
    assert call(b"[]", sign(b"[]")) == 400
    wrong = json.dumps({"id": 1, "parcel": None, "state": "delivered"}).encode()
    assert call(wrong, sign(wrong)) == 400
    unknown = json.dumps({"id": "x", "parcel": "P0", "state": "delivered"}).encode()
    assert call(unknown, sign(unknown)) == 404
    world.settle()
    assert tracking(sent).runtime_status is RuntimeStatus.RUNNING
    assert call(body, sign(body)) == 204
