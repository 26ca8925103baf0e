"""Starting an orchestration from the admin."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....app.durable import Durable
from ....core.names import check_new_id
from ....errors import DurableError, InstanceExists, PayloadError, StoreError
from ....handles.orchestration import Orchestration
from .inputs import LINE, LengthField, LineField, TagsField, checked
from .pages import ClosedAdmin
from .what import WhatForm, field_of_arguments

__all__ = ["StartForm", "StartingAdmin"]

_MAY_START = "start_instance"
_PREFILLED = ("task", "args", "kwargs", "tags")
_SECOND = 1_000_000


class StartForm(WhatForm):
    """Asks for what ``durable.start`` takes."""

    instance_id: LineField = LineField(
        label=_("Id"),
        required=False,
        max_length=150,
        strip=False,
        help_text=_("By which it is found; empty is a random one. An id can be used once."),
    )
    start_at: forms.DateTimeField = forms.DateTimeField(
        label=_("Begins at"),
        required=False,
        widget=forms.DateTimeInput(
            attrs={**LINE, "type": "datetime-local"}, format="%Y-%m-%dT%H:%M"
        ),
    )
    tags: TagsField = TagsField(
        label=_("Tags"), required=False, help_text=_("One in a line: customer=7")
    )
    timeout: LengthField = LengthField(
        least=1,
        label=_("Time-out"),
        required=False,
        help_text=_(
            "Of the whole run, from its first turn: 90 (seconds), 15m, 1.5h or 7d. Empty leaves it"
            " to the orchestrator."
        ),
    )
    version: LineField = LineField(
        label=_("Version"),
        required=False,
        max_length=50,
        help_text=_("Of the orchestrator's code; empty is what any start gets now."),
    )
    reason: LineField = LineField(
        label=_("Reason"),
        required=False,
        max_length=500,
        help_text=_("Kept in the audit trail, with your name."),
    )
    #: The id if none is chosen: sent twice, the form starts once.
    fresh: forms.UUIDField = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, durable: Durable, *args: Any, **options: Any) -> None:
        super().__init__(durable, *args, **options)
        self.fields["start_at"].help_text = _t("Empty is now. Time zone: %(zone)s.") % {
            "zone": timezone.get_current_timezone_name()
        }

    def clean_instance_id(self) -> str | None:
        """Refuse what cannot be an id."""
        chosen = self.cleaned_data["instance_id"]
        return checked(check_new_id, chosen) if chosen else None

    def clean(self) -> dict[str, Any]:
        """Refuse a version that the orchestrator does not have here."""
        given = super().clean() or {}
        name, version = given.get("task"), given.get("version")
        if name and version:
            versions = self.durable.registry.versions(name)
            if version not in versions:
                known = ", ".join(each for each in versions if each) or _t("none")
                self.add_error(
                    "version",
                    _t("%(name)s has these versions here: %(known)s.")
                    % {"name": name, "known": known},
                )
        return given

    def start(self) -> Orchestration | None:
        """Start it; None if it was refused, which the form then tells at its place.

        Raises:
            StoreError: the store cannot be reached.
        """
        given = self.cleaned_data
        timeout, start_at = given["timeout"], given["start_at"]
        if start_at is not None and timezone.is_naive(start_at):  # USE_TZ = False
            start_at = timezone.make_aware(start_at)
        try:
            return self.durable.start(
                self.signature,
                instance_id=given["instance_id"] or str(given["fresh"]),
                start_at=start_at,
                tags=given["tags"],
                timeout=None if timeout is None else timeout / _SECOND,
                version=given["version"] or None,
                if_exists="raise",
            )
        except StoreError:
            raise
        except InstanceExists as error:
            if not given["instance_id"]:
                return self.durable.get(str(given["fresh"]))
            self.add_error("instance_id", str(error))
        except (PayloadError, TypeError, ValueError) as error:
            self.add_error(field_of_arguments(error, self), str(error))
        except DurableError as error:
            self.add_error(None, str(error))
        return None


class StartingAdmin(ClosedAdmin):
    """The part of the orchestrations' admin that starts one."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may start orchestrations, and look at them."""
        return self.may(request, _MAY_START) and self.has_view_permission(request)

    def start_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask what to start; and, with that answered, start it."""
        self.require(request, _MAY_START)
        if request.method != "POST":
            begin = {name: request.GET[name] for name in _PREFILLED if name in request.GET}
            form = StartForm(self.durable, initial={**begin, "fresh": uuid.uuid4()})
            return self._asked(request, form)
        form = StartForm(self.durable, request.POST)
        run = form.start() if form.is_valid() else None
        if run is None:
            return self._asked(request, form)
        reason = form.cleaned_data["reason"]
        done = _t("Started. Reason: %s") % reason if reason else _t("Started.")
        self.log(request, [run.id], done, ADDITION)
        messages.success(request, _t("Started: %s") % run.id)
        return HttpResponseRedirect(self.address("change", run.id))

    def _asked(self, request: HttpRequest, form: StartForm) -> HttpResponse:
        context = {"title": _t("Start an orchestration"), "form": form, "button": _t("Start")}
        return self.rendered(request, "edit.html", context)
