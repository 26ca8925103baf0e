"""The audit trail in the admin: a list of who did what."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _

from ....handles.audit import AuditEntry
from ....inspection.views import audit_view
from .pages import ClosedAdmin

__all__ = ["AuditAdmin", "audit_rows"]

_ROWS_PER_PAGE = 100
_FILTERS = ("target", "actor", "door", "verb")


def audit_rows(admin: Any, request: HttpRequest, entries: list[AuditEntry]) -> list[dict[str, Any]]:
    """Return entries as the templates show them."""
    shows = admin.may_see_payloads(request)
    return [_row(admin, request, entry, shows) for entry in entries]


def _row(admin: Any, request: HttpRequest, entry: AuditEntry, shows: bool) -> dict[str, Any]:
    model = {"orchestration": "instance", "schedule": "schedule"}.get(entry.kind)
    may_look = model is not None and admin.may(request, f"view_{model}")
    return audit_view(entry, messages=shows) | {
        "moment": entry.at,
        "url": (
            admin.address("change", entry.target, model=model)
            if may_look and entry.target is not None
            else None
        ),
        "arguments": sorted(entry.arguments.items()),
    }


class AuditAdmin(ClosedAdmin):
    """The admin of the audit trail; the page of an orchestration has its own entries."""

    list_template = "audit.html"
    page_template = "audit.html"

    def read_one(self, key: str) -> Any:
        """Answer that there are no pages of single entries."""
        raise Http404(_("Entries are shown in the list."))

    def page_context(self, request: HttpRequest, key: str) -> dict[str, Any]:
        """Answer the same."""
        return {"entry": self.found(key)}

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return a page of the list."""
        given = {name: value for name in _FILTERS if (value := request.GET.get(name, "").strip())}
        cursor = request.GET.get("cursor") or None
        problem = ""
        try:
            page = self.durable.audit(limit=_ROWS_PER_PAGE, cursor=cursor, **given)
        except ValueError:
            problem = _("This address is not one of a page; here is the first one.")
            page = self.durable.audit(limit=_ROWS_PER_PAGE, **given)
        return {
            "title": _("Audit"),
            "filters": [(name, given.get(name, "")) for name in _FILTERS],
            "is_filtered": bool(given),
            "problem": problem,
            "entries": audit_rows(self, request, page.items),
            "first_url": "?" + urlencode(given) if cursor else None,
            "next_url": page.next_cursor and "?" + urlencode(given | {"cursor": page.next_cursor}),
        }
