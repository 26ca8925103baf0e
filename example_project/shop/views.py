"""The pages of the shop.

Views start orchestrations and send them events; what happens then is not their business.
"""

import json
from hmac import compare_digest

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Count
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.safestring import mark_safe
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from celery_durable import InstanceNotFound, InvalidState, drawing
from celery_durable.timeline import since_rewind, timeline_of
from celery_durable.views import awaited_view, failure_view
from config.celery import durable
from warehouse.carrier import sign

from .forms import ChangeForm, CheckoutForm, SubscribeForm
from .models import Customer, Letter, Line, Order, Subscription
from .orchestrations import order_fulfilment, refund, subscription


def customer_of(request):
    """Return the customer who is logged in; a user who is new here becomes one."""
    user = request.user
    names = {"name": user.get_full_name() or user.get_username(), "email": user.email}
    return Customer.objects.get_or_create(user=user, defaults=names)[0]


def order_or_404(request, number):
    """Return an order if it is the customer's own, or a member of the staff asks."""
    orders = (
        Order.objects
        if request.user.is_staff
        else Order.objects.filter(customer__user=request.user)
    )
    return get_object_or_404(orders, pk=number)


# -- ordering --------------------------------------------------------------------------------------


@require_GET
def catalogue(request):
    return render(request, "shop/catalogue.html", {"form": CheckoutForm()})


@login_required
@require_POST
def checkout(request):
    """Place an order. Its rows and its orchestration are one commit: both are there, or neither."""
    form = CheckoutForm(request.POST)
    if not form.is_valid():
        return render(request, "shop/catalogue.html", {"form": form}, status=400)
    order = place_order(
        customer_of(request), form.cleaned_data["checkout"], form.cleaned_data["lines"]
    )
    if order.customer.user != request.user:
        return HttpResponse(
            "This form was used by someone else.", status=409, content_type="text/plain"
        )
    return redirect(order)


@transaction.atomic
def place_order(customer, checkout_id, lines):
    """Make an order and start its fulfilment, in one transaction.

    A form that is sent twice orders once.
    """
    total = sum(product.price * quantity for product, quantity in lines)
    order, is_new = Order.objects.get_or_create(
        checkout=checkout_id, defaults={"customer": customer, "total": total}
    )
    if is_new:
        Line.objects.bulk_create(
            Line(order=order, product=product, quantity=quantity, price=product.price)
            for product, quantity in lines
        )
        durable.start(
            order_fulfilment.s(order.pk),
            instance_id=order.reference,
            tags={"customer": str(customer.pk)},
        )
    return order


@login_required
@require_GET
def orders(request):
    found = customer_of(request).orders.all()
    tally = found.order_by("state").values_list("state").annotate(Count("pk"))
    return render(request, "shop/orders.html", {"orders": found, "tally": tally})


@login_required
@require_GET
def order_page(request, number):
    order = order_or_404(request, number)
    behind = behind_of(order) if request.user.is_staff else None
    context = {"order": order, "progress": progress_of(order), "behind": behind}
    return render(request, "shop/order.html", context)


def behind_of(order):
    """Return what the staff sees of the orchestration behind an order; None if it is purged."""
    try:
        run = durable.get(order.reference)
        timeline = timeline_of(run)
    except InstanceNotFound:
        return None
    return {
        "run": run,
        "status": str(run.runtime_status),
        "tags": sorted(run.tags.items()),
        "explanation": run.explain(),
        "awaited": awaited_view(run),
        "failure": failure_view(run),
        "svg": mark_safe(drawing.svg(since_rewind(timeline) or timeline)),  # it escapes all text
    }


@require_GET
def timeline_css(request):
    """Serve the style of timelines."""
    return HttpResponse(drawing.stylesheet(), content_type="text/css; charset=utf-8")


@login_required
@require_GET
def order_progress(request, number):
    """Tell the page's script how far an order is."""
    return JsonResponse(
        progress_of(order_or_404(request, number)), headers={"Cache-Control": "no-store"}
    )


def progress_of(order):
    """Return how far an order is, as its orchestration says."""
    try:
        run = durable.get(order.reference)
    except InstanceNotFound:  # finished long ago, and purged
        return {
            "stage": order.state,
            "note": order.note,
            "done": 6,
            "of": 6,
            "is_over": True,
            "parcel": order.parcel,
        }
    status = run.custom_status or {"stage": "received", "done": 0, "of": 6}
    stage = order.state if order.state == Order.State.REFUNDED else status["stage"]
    return {
        "stage": stage,
        "note": status.get("note", ""),
        "done": status["done"],
        "of": status["of"],
        "is_over": run.runtime_status.is_terminal,
        "parcel": order.parcel,
    }


@login_required
@require_POST
def cancel_order(request, number):
    """Ask the orchestration to take everything back; too late once the parcel is on its way."""
    order = order_or_404(request, number)
    if order.state == Order.State.PLACED:
        durable.get(order.reference).cancel(reason=f"cancelled by {request.user}")
        messages.success(request, "Your order is being cancelled.")
    else:
        messages.error(request, f"It is too late to cancel: your order is {order.state}.")
    return redirect(order)


@login_required
@require_POST
def return_order(request, number):
    """Start the refund of an order that has arrived; asked for twice, there is one."""
    order = order_or_404(request, number)
    if order.state in (Order.State.DELIVERED, Order.State.REFUNDED):
        durable.start(refund.s(order.pk), instance_id=f"refund-{order.pk}")
        messages.success(request, "You get your money back.")
    else:
        messages.error(
            request, f"Only an order that has arrived can be returned; yours is {order.state}."
        )
    return redirect(order)


# -- subscriptions ---------------------------------------------------------------------------------


@login_required
@require_GET
def subscriptions(request):
    found = customer_of(request).subscriptions.prefetch_related("paid")
    return render(
        request, "shop/subscriptions.html", {"subscriptions": found, "form": SubscribeForm()}
    )


@login_required
@require_POST
def subscribe(request):
    form = SubscribeForm(request.POST)
    if not form.is_valid():
        found = customer_of(request).subscriptions.all()
        return render(
            request, "shop/subscriptions.html", {"subscriptions": found, "form": form}, status=400
        )
    begin_subscription(customer_of(request), form.cleaned_data["plan"])
    return redirect("subscriptions")


@transaction.atomic
def begin_subscription(customer, plan):
    new = Subscription.objects.create(customer=customer, plan=plan)
    durable.start(
        subscription.s(new.pk), instance_id=new.reference, tags={"customer": str(customer.pk)}
    )
    return new


@login_required
@require_POST
def change_subscription(request, number):
    """Tell the orchestration what the customer wants."""
    found = get_object_or_404(Subscription, pk=number, customer__user=request.user)
    form = ChangeForm(request.POST)
    if not form.is_valid():
        return HttpResponse("There is no such change.", status=400, content_type="text/plain")
    try:
        durable.get(found.reference).raise_event("change", form.cleaned_data)
    except (InvalidState, InstanceNotFound):
        messages.error(request, "This subscription has ended.")
    return redirect("subscriptions")


# -- others ----------------------------------------------------------------------------------------


@staff_member_required
@require_GET
def letters(request):
    """Show what the shop has written, with the links in it."""
    return render(request, "shop/letters.html", {"letters": Letter.objects.all()[:50]})


@csrf_exempt  # the carrier has no cookie: its signature is what counts
@require_POST
def carrier_webhook(request):
    """Hear that a parcel has arrived. A call that comes twice has the same id, and counts once."""
    if not compare_digest(
        request.headers.get("X-Signature", "").encode(), sign(request.body).encode()
    ):
        return JsonResponse({"error": "the signature is missing or wrong"}, status=403)
    try:
        call = json.loads(request.body)
        parcel, state, event_id = call["parcel"], call["state"], call["id"]
        if not all(
            isinstance(each, str) and 0 < len(each) <= 100 for each in (parcel, state, event_id)
        ):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"error": "id, parcel and state are texts"}, status=400)
    try:
        durable.get(f"parcel-{parcel}").raise_event("carrier", {"state": state}, event_id=event_id)
    except InstanceNotFound:
        return JsonResponse({"error": "there is no such parcel"}, status=404)
    except InvalidState:
        pass  # found out by looking already
    return HttpResponse(status=204)
