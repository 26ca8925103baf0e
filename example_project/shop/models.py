"""The shop's own rows. Amounts are in cents."""

import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse


class Customer(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True)
    name = models.CharField(max_length=100)
    email = models.EmailField(blank=True)
    time_zone = models.CharField(max_length=50, default="Europe/Berlin")
    card = models.CharField(
        max_length=50, default="tok_visa", help_text="what the payment company calls the card"
    )

    def __str__(self):
        return self.name


class Product(models.Model):
    sku = models.SlugField(primary_key=True)
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=200)
    price = models.PositiveIntegerField()

    class Meta:
        ordering = ("price",)

    def __str__(self):
        return self.name


class Order(models.Model):
    """What a customer wants.

    How far it is, its orchestration knows best; ``state`` is for lists.
    """

    class State(models.TextChoices):
        PLACED = "placed"
        SHIPPED = "shipped"
        DELIVERED = "delivered"
        CANCELLED = "cancelled"
        REFUNDED = "refunded"

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    checkout = models.UUIDField(
        default=uuid.uuid4, unique=True, help_text="of the form: sent twice, it orders once"
    )
    state = models.CharField(max_length=20, choices=State, default=State.PLACED)
    total = models.PositiveIntegerField()
    note = models.CharField(max_length=200, blank=True)
    parcel = models.CharField(max_length=20, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self):
        return f"Order {self.pk}"

    @property
    def reference(self):
        """What the order is called outside, and its orchestration."""
        return f"order-{self.pk}"

    def get_absolute_url(self):
        return reverse("order", args=[self.pk])


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveIntegerField()
    price = models.PositiveIntegerField(help_text="of one, when it was ordered")

    def __str__(self):
        return f"{self.quantity} {self.product_id}"

    @property
    def amount(self):
        return self.quantity * self.price


class Invoice(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    month = models.CharField(max_length=7, help_text="2026-11")
    amount = models.PositiveIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["customer", "month"], name="one_invoice_a_month"),
        )

    def __str__(self):
        return f"{self.customer}, {self.month}"


class Plan(models.TextChoices):
    """What one can subscribe to."""

    BEANS = "beans", "A bag of beans"
    TASTING = "tasting", "Three small bags"


PRICES = {Plan.BEANS: 14_00, Plan.TASTING: 22_00}


class Subscription(models.Model):
    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        ENDED = "ended"

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="subscriptions")
    plan = models.CharField(max_length=20, choices=Plan)
    state = models.CharField(max_length=20, choices=State, default=State.ACTIVE)
    note = models.CharField(max_length=200, blank=True)

    def __str__(self):
        return f"{self.get_plan_display()} for {self.customer}"

    @property
    def reference(self):
        return f"subscription-{self.pk}"


class PaidMonth(models.Model):
    subscription = models.ForeignKey(Subscription, models.CASCADE, related_name="paid")
    month = models.CharField(max_length=7, help_text="2026-11")
    amount = models.PositiveIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["subscription", "month"], name="a_month_is_paid_once"),
        )
        ordering = ("month",)

    def __str__(self):
        return f"{self.subscription}, {self.month}"


class Letter(models.Model):
    """A mail that the shop has sent: here they are kept, and shown to the staff."""

    key = models.CharField(max_length=200, unique=True, help_text="a letter is sent once")
    to = models.CharField(max_length=200)
    subject = models.CharField(max_length=200)
    body = models.TextField()
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self):
        return self.subject
