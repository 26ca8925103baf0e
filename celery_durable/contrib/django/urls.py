"""``path("durable/", include("celery_durable.contrib.django.urls"))``, for users with Django's
permissions.

``path("durable/", durable_urls(authorize))`` is the same with a hook of the project's own, such as
``tokens_or_session(Token(...))``.
"""

from __future__ import annotations

from typing import Any

from django.urls import include, path, re_path

from ...http.access import Authorize
from ...http.links import APPROVALS, STYLESHEET
from .http import api_view, approval_view, session_access, stylesheet_view

__all__ = ["app_name", "durable_urls", "urlpatterns"]

app_name = "celery_durable"


def durable_urls(authorize: Authorize = session_access) -> Any:
    """Return what ``path()`` takes.

    Args:
        authorize: ``authorize(request, verb, instance_id)`` gives True, False or a ``Verdict``;
            asked before anything is done or shown.
    """
    return include((_patterns(authorize), app_name))


def _patterns(authorize: Authorize) -> list[Any]:
    api = api_view(authorize)
    return [
        path("", api, name="root"),
        path(STYLESHEET, stylesheet_view, name="stylesheet"),
        re_path(rf"^{APPROVALS}(?P<token>[^/]+)\Z", approval_view, name="approval"),
        re_path(r"^(?P<path>[\s\S]+)\Z", api, name="api"),
    ]


urlpatterns: list[Any] = _patterns(session_access)
