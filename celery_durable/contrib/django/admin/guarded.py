"""What all pages of the admin share: who may see them, where they are, and what they answer where
the store fails them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _

from ....app.durable import Durable
from ....engine.audit import acting
from ....engine.verb import Surface
from ....errors import (
    ConfigurationError,
    DurableError,
    InstanceNotFound,
    ScheduleNotFound,
    StoreError,
)
from ..project import durable_of_project
from ..transactions import commits_by_itself
from .addresses import quoted

__all__ = ["GuardedAdmin", "View"]

View = Callable[..., HttpResponseBase]


class GuardedAdmin(admin.ModelAdmin):
    """A model whose rows Django's admin does not change."""

    # -- Django's own ways of changing rows are closed ---------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        """No user may."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No user may."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No user may."""
        return False

    # -- permissions -------------------------------------------------------------------------------

    def may(self, request: HttpRequest, codename: str) -> bool:
        """Tell whether the user has a permission of this application."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def require(self, request: HttpRequest, *codenames: str) -> None:
        """Refuse a user who may not look, or lacks one of these permissions.

        Raises:
            PermissionDenied: so it is.
        """
        if not self.has_view_permission(request) or not all(
            self.may(request, each) for each in codenames
        ):
            raise PermissionDenied

    def may_see_payloads(self, request: HttpRequest) -> bool:
        """Tell whether the user may see inputs, outputs, states and the messages of errors."""
        return self.may(request, "view_payload")

    # -- addresses ---------------------------------------------------------------------------------

    @property
    def durable(self) -> Durable:
        """The project's orchestrations."""
        durable: Durable = durable_of_project()
        return durable

    def own_path(self, route: str, view: View, name: str) -> Any:
        """Return an address of this model."""
        return path(
            route,
            commits_by_itself(self.admin_site.admin_view(self.guarded(view))),
            name=self._name(name),
        )

    def _name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def address(self, name: str, *args: str, model: str | None = None) -> str:
        """Return the address of a page, of this model or of another one of the application."""
        view = f"admin:{self.opts.app_label}_{model or self.opts.model_name}_{name}"
        parts = [quoted(args[0]), *args[1:]] if args else []
        return str(reverse(view, args=parts, current_app=self.admin_site.name))

    # -- answers -----------------------------------------------------------------------------------

    def rendered(
        self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
    ) -> HttpResponse:
        """Return a page of the admin site."""
        request.current_app = self.admin_site.name
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "list_url": self.address("changelist"),
            "timeline_css_url": self.address("timeline_css"),
            "may_see_payloads": self.may_see_payloads(request),
        }
        return TemplateResponse(
            request, f"admin/celery_durable/{template}", {**shared, **context}, status=status
        )

    def guarded(self, view: View) -> View:
        """Let a view answer in words where the store or an id fails it."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                why = request.POST.get("reason", "").strip() or None
                with acting(request.user.get_username() or None, Surface.ADMIN, why):
                    return view(request, *args, **kwargs)
            except (InstanceNotFound, ScheduleNotFound) as error:
                raise Http404(str(error)) from error
            except (StoreError, ConfigurationError) as error:
                return self._problem(request, _("The store cannot be used"), error, 503)
            except DurableError as error:
                return self._problem(request, _("This cannot be shown"), error, 500)

        return guarded

    def _problem(
        self, request: HttpRequest, title: str, error: DurableError, status: int
    ) -> HttpResponse:
        text = str(error) if self.may_see_payloads(request) else type(error).__name__
        return self.rendered(request, "problem.html", {"title": title, "problem": text}, status)
