"""What is on the shelves, what is put aside, and what is on its way."""

import secrets
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone


def new_number():
    return f"P{secrets.token_hex(5).upper()}"


class Shelf(models.Model):
    """How many pieces of a product are there, those that are put aside not counted."""

    sku = models.CharField(max_length=50, primary_key=True)
    quantity = models.PositiveIntegerField()

    def __str__(self):
        return f"{self.quantity} {self.sku}"


class Reservation(models.Model):
    """Pieces put aside for an order."""

    order = models.CharField(max_length=50)
    sku = models.CharField(max_length=50)
    quantity = models.PositiveIntegerField()
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["order", "sku"], name="one_reservation_of_a_line"),
        )

    def __str__(self):
        return f"{self.quantity} {self.sku} for {self.order}"


class Parcel(models.Model):
    """A parcel, which arrives by itself after a few days."""

    number = models.CharField(max_length=20, primary_key=True, default=new_number)
    order = models.CharField(max_length=50, unique=True)
    sent_at = models.DateTimeField(default=timezone.now)
    is_recalled = models.BooleanField(default=False)

    def __str__(self):
        return self.number

    @property
    def arrives_at(self):
        return self.sent_at + timedelta(
            seconds=settings.WAREHOUSE_DELIVERY_DAYS * settings.SHOP_DAY
        )

    @property
    def state(self):
        if self.is_recalled:
            return "recalled"
        return "delivered" if timezone.now() >= self.arrives_at else "on its way"
