"""What the pages of orchestrations, entities and schedules share: closed models, addresses,
permissions, and errors.

The rows are not read through Django's models but through ``Durable``, so that the pages work
whatever database the store is in. The models stand for permissions, and for the links of Django's
own pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import wraps
from importlib import resources
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .addresses import unquoted
from .guarded import GuardedAdmin, View

__all__ = ["ClosedAdmin", "age_of", "only_post"]

_MOST_SHOWN = 50
_READING = ("GET", "HEAD")


def age_of(moment: datetime) -> str:
    """Return how long ago a moment was, in one unit."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    text = (
        ngettext("%d second", "%d seconds", seconds) % seconds
        if seconds < 60
        else timesince(moment, depth=1)
    )
    return str(text)


def only_post(view: View) -> View:
    """Let a view answer POST only."""

    @wraps(view)
    def checked(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        return view(self, request, *args, **kwargs)

    return checked


class ClosedAdmin(GuardedAdmin):
    """A model that is looked at, and changed by verbs only."""

    actions = None
    list_template = ""
    page_template = ""

    # -- addresses ---------------------------------------------------------------------------------

    def own_urls(self) -> list[Any]:
        """Return the addresses beside the list and the page."""
        return []

    def get_urls(self) -> list[Any]:
        """Return Django's addresses of the model, and ours before them."""
        return [
            *self.own_urls(),
            self.own_path("timeline.css", self.timeline_css, "timeline_css"),
            *super().get_urls(),
        ]

    def timeline_css(self, request: HttpRequest) -> HttpResponse:
        """Answer with the style of the pictures, which is shared with the surfaces that are not
        Django's.
        """
        text = resources.files("celery_durable").joinpath("static/timeline.css").read_text("utf-8")
        response = HttpResponse(text, content_type="text/css; charset=utf-8")
        response["Cache-Control"] = "private, max-age=3600"
        return response

    # -- pages -------------------------------------------------------------------------------------

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the list shows."""
        raise NotImplementedError

    def page_context(self, request: HttpRequest, key: str) -> dict[str, Any]:
        """Return what the page of one shows."""
        raise NotImplementedError

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseBase:
        """Answer with the list."""
        if request.method not in _READING:
            return HttpResponseNotAllowed(_READING)
        return self.guarded(self._list)(request)

    def _list(self, request: HttpRequest) -> HttpResponseBase:
        self.require(request)
        title = _("Select %s to view") % self.opts.verbose_name
        return self.rendered(
            request, self.list_template, {"title": title, **self.list_context(request)}
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        """Answer with the page of one."""
        if request.method not in _READING:
            return HttpResponseNotAllowed(_READING)
        return self.guarded(self._page)(request, unquoted(object_id))

    def _page(self, request: HttpRequest, key: str) -> HttpResponseBase:
        self.require(request)
        context = {
            "title": key,
            "key": key,
            "log_url": self.address("history", key),
            **self.page_context(request, key),
        }
        return self.rendered(request, self.page_template, context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponseBase:
        """Answer with what users of the admin did to one; also after it was purged."""
        return self.guarded(self._log_page)(request, object_id)

    def _log_page(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        self.require(request)
        if self.get_object(request, unquoted(object_id)) is None:
            raise Http404(f"there is no {self.opts.verbose_name} {unquoted(object_id)!r}")
        response: HttpResponseBase = super().history_view(request, quote(unquoted(object_id)))
        return response

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return what Django's own pages about one need of it; None if nothing is known of it."""
        if "\x00" in object_id:
            return None  # PostgreSQL does not even let the log be asked for it
        try:
            self.read_one(object_id)
        except (LookupError, ValueError):
            content_type = ContentType.objects.get_for_model(self.model)
            if not LogEntry.objects.filter(content_type=content_type, object_id=object_id).exists():
                return None
        return self.model(pk=object_id)

    def read_one(self, key: str) -> Any:
        """Return the one with this id.

        Raises:
            LookupError: there is none.
            ValueError: nothing can have this id.
        """
        raise NotImplementedError

    def found(self, key: str) -> Any:
        """Return the one with this id, or answer 404."""
        try:
            return self.read_one(key)
        except (LookupError, ValueError) as error:
            raise Http404(str(error)) from error

    # -- reporting what was done -------------------------------------------------------------------

    def log(
        self, request: HttpRequest, keys: Sequence[str], message: str, flag: int = CHANGE
    ) -> None:
        """Record in Django's admin log what the user did."""
        if keys:
            LogEntry.objects.log_actions(
                request.user.pk, [self.model(pk=key) for key in keys], flag, message
            )

    def show_refusals(self, request: HttpRequest, refusals: Sequence[str]) -> None:
        """Show why some were not done, each by itself."""
        for text in refusals[:_MOST_SHOWN]:
            messages.error(request, text)
        if (left := len(refusals) - _MOST_SHOWN) > 0:
            messages.error(
                request, ngettext("%d more was refused.", "%d more were refused.", left) % left
            )
