"""The books of the payment company."""

from django.db import models


class Charge(models.Model):
    """A charge, known by the idempotency key that came with it."""

    key = models.CharField(max_length=200, unique=True)
    reference = models.CharField(max_length=100, db_index=True)
    amount = models.PositiveIntegerField(help_text="cents")
    taken = models.PositiveIntegerField(default=0, help_text="how often money was taken")
    returned = models.PositiveIntegerField(default=0, help_text="how often it was given back")
    requests = models.PositiveIntegerField(default=0, help_text="how often it was asked for")

    def __str__(self):
        return (
            f"{self.reference}: {self.amount / 100:.2f}, taken {self.taken}, returned"
            f" {self.returned}"
        )

    @property
    def is_paid(self):
        return self.taken > self.returned
