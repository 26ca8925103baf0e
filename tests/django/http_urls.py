"""The contract for users with permissions, once more with tokens beside, and a view of the
project's own.
"""

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from celery_durable.contrib.django.http import (
    create_check_status_response,
    session_access,
    tokens_or_session,
)
from celery_durable.contrib.django.urls import durable_urls
from celery_durable.http import VERBS, Token, Verdict

from .project.celery import durable
from .project.orders.models import Order
from .project.orders.tasks import approval


@login_not_required
@csrf_exempt
@transaction.atomic
def place(request):
    """Start within the view's own transaction."""
    Order.objects.create(name=request.GET["name"])
    run = durable.start(approval.s(request.GET["name"]), instance_id=request.GET["name"])
    return create_check_status_response(request, run.id)


def only_own(request, verb, instance_id):
    """A hook of the project's own: users see what begins with their name."""
    verdict = session_access(request, verb, instance_id)
    own = instance_id is not None and instance_id.startswith(f"{request.user.get_username()}-")
    return verdict if verdict is not Verdict.ALLOWED or own else Verdict.FORBIDDEN


urlpatterns = [
    path("durable/", include("celery_durable.contrib.django.urls")),
    path(
        "machines/",
        durable_urls(
            tokens_or_session(
                Token("a-token-that-may-everything", VERBS),
                Token("a-token-that-may-look", ["view"]),
            )
        ),
    ),
    path("own/", durable_urls(only_own)),
    path("place", place),
]
