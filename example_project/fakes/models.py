"""A fault is a row: a service has it as long as the row is there.

So is a withdrawal, of something that was never done.
"""

import time
from datetime import timedelta

from django.db import models, transaction
from django.utils import timezone

SLOWNESS = 2.0  # seconds
CLOSED_FOR = timedelta(minutes=1)


class Fault(models.Model):
    """What a service does wrong, for some more requests or until it is switched off."""

    class Service(models.TextChoices):
        PAYMENTS = "payments"
        WAREHOUSE = "warehouse"

    class Kind(models.TextChoices):
        SLOW = "slow", "answers slowly"
        ERROR = "error", "does what it is asked, and answers 500 all the same"
        DOWN = "down", "answers 503 and does nothing"
        REFUSE = "refuse", "does not accept the shop's API key any more"
        REFUSE_PARCELS = "refuse_parcels", "sends no parcels today (warehouse)"
        DECLINE = "decline", "declines every card (payments)"
        DUPLICATE_CALLBACK = "duplicate_callback", "tells of each delivery twice (warehouse)"
        LOST_CALLBACK = "lost_callback", "never tells of a delivery (warehouse)"

    service = models.CharField(max_length=20, choices=Service)
    kind = models.CharField(max_length=20, choices=Kind)
    left = models.PositiveIntegerField(
        null=True, blank=True, help_text="for how many more requests; empty: until switched off"
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["service", "kind"], name="one_fault_of_a_kind"),
        )

    def __str__(self):
        return f"{self.service}: {self.get_kind_display()}"


def switch_on(service, kind, times=None):
    """Let a service have a fault, ``times`` times or until it is switched off."""
    Fault.objects.update_or_create(service=service, kind=kind, defaults={"left": times})


def switch_off(service, kind):
    Fault.objects.filter(service=service, kind=kind).delete()


def is_on(service, kind):
    """Tell whether a service has this fault now, and count that."""
    with transaction.atomic():
        fault = Fault.objects.select_for_update().filter(service=service, kind=kind).first()
        if fault is None:
            return False
        if fault.left is not None:
            fault.left -= 1
            fault.save() if fault.left > 0 else fault.delete()
        return True


def be_slow(service):
    if is_on(service, Fault.Kind.SLOW):
        time.sleep(SLOWNESS)


class Withdrawal(models.Model):
    """Someone took back what was not there: if it is still on its way, it comes too late."""

    reference = models.CharField(max_length=150, primary_key=True)
    until = models.DateTimeField()

    def __str__(self):
        return self.reference


def withdraw(reference):
    """Refuse what comes late, for a minute."""
    Withdrawal.objects.update_or_create(
        reference=reference, defaults={"until": timezone.now() + CLOSED_FOR}
    )


def is_withdrawn(reference):
    return Withdrawal.objects.filter(reference=reference, until__gt=timezone.now()).exists()
