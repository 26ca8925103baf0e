"""Letters: mails that are kept in the database, where the staff reads them.

In a real shop this is an ordinary mail backend.
"""

import contextlib
import contextvars

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone

from celery_durable.contrib.django.http import signed_event_url

from .models import Letter

_key = contextvars.ContextVar("key of the letter that is being sent")


@contextlib.contextmanager
def key_of_letter(key):
    """Give the letters of this block a key: a key is sent once."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


class Outbox(BaseEmailBackend):
    """Keeps letters instead of sending them."""

    def send_messages(self, messages):
        for message in messages:
            letter = {"to": ", ".join(message.to), "subject": message.subject, "body": message.body}
            Letter.objects.get_or_create(key=_key.get(), defaults=letter)
        return len(messages)


def approval_letter(order, instance_id, expires):
    """Return the text of a letter that asks for an approval: its link opens a question, which can
    be answered once.
    """
    link = signed_event_url(
        instance_id,
        "decision",
        {"Approve": {"approved": True}, "Decline": {"approved": False}},
        origin=settings.SHOP_URL,
        title=f"{order} over {order.total / 100:.2f} EUR",
        max_age=max((expires - timezone.now()).total_seconds(), 1),
        key="the decision",
    )
    lines = "\n".join(
        f"  {line.quantity} x {line.product}" for line in order.lines.select_related("product")
    )
    return f"{order.customer} has ordered:\n{lines}\n\nApprove or decline: {link}\n"
