"""Entities in the admin: the list, and the page of one with its state."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.translation import gettext as _

from ....errors import InstanceNotFound
from ....handles.entity import entities_of
from .pages import ClosedAdmin, age_of
from .payloads import shown_payload

__all__ = ["EntityAdmin"]

_ROWS_PER_PAGE = 100


class EntityAdmin(ClosedAdmin):
    """The admin of entities.

    What happens to one is a matter of its operations, so there are no verbs.
    """

    list_template = "entities.html"
    page_template = "entity.html"

    def read_one(self, key: str) -> Any:
        """Return the entity of an instance id, ``@<name>@<key>``."""
        found = entities_of(self.durable.runtime).fetch(key) if _may_be_id(key) else None
        if found is None:
            raise InstanceNotFound(f"there is no entity {key!r}", instance_id=key)
        return found

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return a page of the list."""
        name, cursor, problem = request.GET.get("name", ""), request.GET.get("cursor") or None, ""
        try:
            page = self.durable.entities(name or None, limit=_ROWS_PER_PAGE, cursor=cursor)
        except ValueError:
            problem = _("This address is not one of a page; here is the first one.")
            page = self.durable.entities(limit=_ROWS_PER_PAGE)
        given = {"name": name} if name else {}
        return {
            "title": _("Entities"),
            "name": name,
            "problem": problem,
            "rows": [
                {
                    "entity": each,
                    "url": self.address("change", each.id),
                    "moved": age_of(each.updated_at),
                }
                for each in page.items
            ],
            "previous_url": (
                page.previous_cursor and "?" + urlencode(given | {"cursor": page.previous_cursor})
            ),
            "next_url": page.next_cursor and "?" + urlencode(given | {"cursor": page.next_cursor}),
        }

    def page_context(self, request: HttpRequest, key: str) -> dict[str, Any]:
        """Return all that is known of one entity."""
        entity = self.found(key)
        holder = entity.locked_by
        context = {
            "entity": entity,
            "instance_url": self.address("change", key, model="instance"),
            "holder_url": (
                None if holder is None else self.address("change", holder, model="instance")
            ),
        }
        if self.may_see_payloads(request):
            context["state"] = shown_payload("state", _("State"), lambda: entity.state)
        return context


def _may_be_id(key: str) -> bool:
    return 1 <= len(key) <= 150 and "\x00" not in key
