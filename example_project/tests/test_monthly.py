"""What happens once a month: invoices for everybody, and subscriptions over a year."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from celery_durable import RuntimeStatus
from config.celery import durable
from payments.models import Charge
from shop.models import Customer, Invoice, Letter, Subscription
from shop.orchestrations import due_of, monthly_invoices
from shop.views import begin_subscription


def invoices(world, customers, without_address=0, **options):
    Customer.objects.bulk_create(
        Customer(name=f"Customer {n}", email="" if n < without_address else f"c{n}@shop.example")
        for n in range(customers)
    )
    return world.env.start(monthly_invoices.s("2026-11", **options))


def test_everybody_gets_an_invoice(world):
    run = invoices(world, 1998)
    assert run.refresh().runtime_status is RuntimeStatus.COMPLETED, run.explain()
    assert run.output == {"month": "2026-11", "written": 2000, "failed": {}}
    assert run.custom_status == {"done": 2000, "of": 2000, "failed": 0}
    assert Invoice.objects.count() == 2000
    assert (
        Letter.objects.get(subject="Invoices of 2026-11").body
        == "2000 invoices are written, 0 are not."
    )


def test_some_failures_are_tolerated_and_listed(world):
    run = invoices(world, 98, without_address=5)
    assert run.refresh().output["written"] == 95
    assert len(run.output["failed"]) == 5
    assert "Customer 3 has no address" in Letter.objects.get().body


def test_too_many_failures_end_it_and_a_rewind_brings_it_below_what_is_tolerated(world):
    run = invoices(world, 98, without_address=8)
    assert run.refresh().runtime_status is RuntimeStatus.FAILED
    assert type(run.failure).__name__ == "NoAddress"
    before = set(Invoice.objects.values_list("pk", flat=True))
    Customer.objects.filter(email="").update(email="found@shop.example")
    run.rewind(reason="the addresses were found")
    world.settle()
    assert run.refresh().runtime_status is RuntimeStatus.COMPLETED
    assert run.output["written"] == Invoice.objects.count() >= 95
    assert run.output["written"] + len(run.output["failed"]) == 100
    assert before < set(Invoice.objects.values_list("pk", flat=True))


# -- subscriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "zone", "months", "due"),
    [
        ("2026-01-31T08:00:00+00:00", "Europe/Berlin", 1, "2026-02-28T08:00:00+00:00"),
        # nine o'clock all the same
        ("2026-01-31T08:00:00+00:00", "Europe/Berlin", 2, "2026-03-31T07:00:00+00:00"),
        ("2026-02-28T08:00:00+00:00", "Europe/Berlin", 12, "2027-02-28T08:00:00+00:00"),
        (
            "2026-02-28T01:30:00+00:00",
            "Europe/Berlin",
            13,
            "2027-03-28T01:30:00+00:00",
        ),  # half past two is left out that day
        # and comes twice on that one
        ("2026-09-25T00:30:00+00:00", "Europe/Berlin", 1, "2026-10-25T00:30:00+00:00"),
        # half an hour
        ("2026-10-04T20:00:00+00:00", "Australia/Lord_Howe", 6, "2027-04-04T20:30:00+00:00"),
        ("2024-02-29T12:00:00+00:00", "UTC", 12, "2025-02-28T12:00:00+00:00"),
    ],
)
def test_a_month_is_due_at_the_customers_own_time_of_day(since, zone, months, due):
    found = datetime.fromisoformat(due_of(since, months, zone))
    assert found == datetime.fromisoformat(due)
    local, begin = (
        moment.astimezone(ZoneInfo(zone)) for moment in (found, datetime.fromisoformat(since))
    )
    has_gap = (local.month, local.day, zone) == (3, 28, "Europe/Berlin")
    assert local.time() == (time(3, 30) if has_gap else begin.time())


@pytest.fixture
def subscribed(world, ada):
    begun = begin_subscription(ada, "beans")
    world.settle()
    return begun


def run_of(subscription):
    return durable.get(subscription.reference)


def months_paid(subscription):
    return list(subscription.paid.values_list("month", flat=True))


def test_a_year_is_paid_month_by_month(world, subscribed):
    begin = world.env.now
    world.advance(timedelta(days=366))
    paid = months_paid(subscribed)
    assert len(paid) == len(set(paid)) == 13
    assert paid[0] == f"{begin:%Y-%m}"
    assert Charge.objects.count() == 13
    assert run_of(subscribed).runtime_status is RuntimeStatus.RUNNING
    assert len(run_of(subscribed).history()) < 20, "each month begins again"


def test_a_pause_is_not_paid_and_a_new_plan_is(world, subscribed):
    world.settle()
    run_of(subscribed).raise_event("change", {"to": "pause"})
    world.advance(timedelta(days=70))
    subscribed.refresh_from_db()
    assert (subscribed.state, len(months_paid(subscribed))) == ("paused", 1)
    run_of(subscribed).raise_event("change", {"to": "plan", "plan": "tasting"})
    run_of(subscribed).raise_event("change", {"to": "resume"})
    world.advance(timedelta(days=31))
    subscribed.refresh_from_db()
    assert (subscribed.state, subscribed.plan) == ("active", "tasting")
    assert list(subscribed.paid.values_list("amount", flat=True)) == [1400, 2200]


def test_a_cancelled_one_ends_at_once(world, subscribed):
    world.settle()
    run_of(subscribed).raise_event("change", {"to": "cancel"})
    world.settle()
    subscribed.refresh_from_db()
    assert run_of(subscribed).output == {"months": 1, "ended": "cancelled"}
    assert (subscribed.state, subscribed.note) == ("ended", "cancelled")
    world.advance(timedelta(days=100))
    assert len(months_paid(subscribed)) == 1


def test_a_card_that_is_declined_is_tried_again_until_there_is_another(world, subscribed, ada):
    ada.card = "tok_declined"
    ada.save()
    world.advance(timedelta(days=33))  # a month, and the first try after a day
    assert Letter.objects.filter(subject="Your card was declined").count() == 2
    ada.card = "tok_visa"
    ada.save()
    world.advance(timedelta(days=4))
    assert len(months_paid(subscribed)) == 2


def test_one_that_is_never_paid_ends(world, bob):
    subscribed = begin_subscription(bob, "beans")
    world.advance(timedelta(days=12))
    subscribed.refresh_from_db()
    assert (subscribed.state, subscribed.note) == ("ended", "it was not paid")
    assert run_of(subscribed).output == {"months": 0, "ended": "it was not paid"}
    assert Letter.objects.filter(subject="Your card was declined").count() == 3
    assert Subscription.objects.count() == 1


def test_one_can_be_cancelled_while_its_card_is_declined(world, bob):
    subscribed = begin_subscription(bob, "beans")
    world.settle()
    run_of(subscribed).raise_event("change", {"to": "cancel"})
    world.settle()
    subscribed.refresh_from_db()
    assert run_of(subscribed).output == {"months": 0, "ended": "cancelled"}
    assert (subscribed.state, subscribed.note) == ("ended", "cancelled")
    assert not Charge.objects.exists()
