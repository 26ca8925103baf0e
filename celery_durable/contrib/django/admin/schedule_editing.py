"""Making schedules and changing them in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _t

from ....app.durable import Durable
from ....handles.schedule import Schedule, row_of_schedule
from .addresses import unquoted
from .pages import ClosedAdmin
from .schedule_forms import EditScheduleForm, NewScheduleForm, ScheduleForm

__all__ = ["EditingAdmin", "why_read_only"]

_MAY_ADD, _MAY_CHANGE = "add_schedule", "change_schedule"


def why_read_only(durable: Durable, schedule: Schedule) -> str | None:
    """Say why a schedule cannot be changed here; None if it can."""
    if row_of_schedule(schedule).is_declared is None:
        return None
    key = schedule.name.split(":", 2)[-1]
    text = _t(
        "It is the entry “%(key)s” of beat_schedule (durable_beat): workers declare it each time"
        " they start, so it is changed there. It can be paused here."
    )
    return str(text % {"key": key})


class EditingAdmin(ClosedAdmin):
    """The part of the schedules' admin that makes and changes them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may make schedules, and look at them."""
        return self.may(request, _MAY_ADD) and self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether the user may change schedules."""
        return self.may(request, _MAY_CHANGE)

    def form_urls(self) -> list[Any]:
        """Return the addresses of the forms."""
        return [
            self.own_path("add/", self.new_view, "add"),
            self.own_path("<path:object_id>/edit/", self.edit_view, "edit"),
        ]

    def new_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask for a new schedule; and, with that answered, make it."""
        self.require(request, _MAY_ADD)
        is_sent = request.method == "POST"
        form = NewScheduleForm(self.durable, request.POST if is_sent else None)
        made = form.save() if is_sent and form.is_valid() else None
        if made is None:
            return self._asked(request, form, _t("Make a schedule"))
        return self._saved(request, form, made, _t("Made"), ADDITION)

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Ask for changes of a schedule; and, with that answered, write them."""
        self.require(request, _MAY_CHANGE)
        schedule: Schedule = self.found(unquoted(object_id))
        if why_read_only(self.durable, schedule) is not None:
            if request.method == "POST":
                raise PermissionDenied
            return HttpResponseRedirect(self.address("change", schedule.name))
        is_sent = request.method == "POST"
        form = EditScheduleForm(
            self.durable,
            schedule,
            self.may_see_payloads(request),
            request.POST if is_sent else None,
        )
        saved = form.save() if is_sent and form.is_valid() else None
        if saved is None:
            title = _t("Change schedule %s") % schedule.name
            return self._asked(request, form, title, schedule.name)
        return self._saved(request, form, saved, _t("Changed"), CHANGE)

    def _asked(
        self, request: HttpRequest, form: ScheduleForm, title: str, key: str | None = None
    ) -> HttpResponse:
        note = _t("Code that declares this schedule again brings it back to what the code says.")
        context = {
            "title": title,
            "form": form,
            "button": _t("Save"),
            "note": None if key is None else note,
            "back_url": self.address("changelist") if key is None else self.address("change", key),
        }
        return self.rendered(request, "edit.html", context)

    def _saved(
        self, request: HttpRequest, form: ScheduleForm, schedule: Schedule, done: str, flag: int
    ) -> HttpResponseBase:
        labels = [str(form.fields[name].label) for name in form.changed_data if name != "reason"]
        what = f"{done}: {', '.join(labels)}" if flag == CHANGE and labels else done
        reason = form.cleaned_data["reason"]
        text = _t("%(done)s. Reason: %(reason)s") if reason else "%(done)s."
        self.log(request, [schedule.name], text % {"done": what, "reason": reason}, flag)
        messages.success(request, f"{done}: {schedule.name}")
        return HttpResponseRedirect(self.address("change", schedule.name))
