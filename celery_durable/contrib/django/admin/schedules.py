"""Schedules in the admin: the list, the page of one, making and changing them, and pausing,
resuming, triggering and deleting them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin.models import CHANGE, DELETION
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....errors import DurableError
from ....handles.schedule import Schedule, row_of_schedule
from .addresses import quoted, unquoted
from .filters import STATUS_LABELS
from .forms import ReasonForm
from .inputs import length_text
from .pages import only_post
from .payloads import Payload, shown_payload
from .schedule_editing import EditingAdmin, why_read_only

__all__ = ["SCHEDULE_VERBS", "ScheduleAdmin"]

_MOST_RUNS = 20


@dataclass(frozen=True)
class ScheduleVerb:
    """What can be done to a schedule."""

    name: str
    label: Any
    meaning: Any
    done: Any
    is_drastic: bool = False

    @property
    def permission(self) -> str:
        """The codename of the permission that it needs."""
        return f"{self.name}_schedule"

    def fits(self, schedule: Schedule) -> bool:
        """Tell whether it does anything now."""
        return {"pause": not schedule.is_paused, "resume": schedule.is_paused}.get(self.name, True)

    def apply(self, schedule: Schedule, reason: str) -> str:
        """Do it; return the id of what was started, if anything was."""
        if self.name == "trigger":
            return str(schedule.trigger().id)
        if self.name == "pause":
            schedule.pause(reason=reason)
        else:
            getattr(schedule, self.name)()
        return ""


SCHEDULE_VERBS: Mapping[str, ScheduleVerb] = {
    verb.name: verb
    for verb in (
        ScheduleVerb(
            "pause",
            _("Pause"),
            _("It starts nothing until it is resumed; what runs continues."),
            _("Paused"),
        ),
        ScheduleVerb(
            "resume",
            _("Resume"),
            _("It continues with its next tick; those of the pause are left out."),
            _("Resumed"),
        ),
        ScheduleVerb(
            "trigger",
            _("Run now"),
            _("It starts an extra orchestration now, whatever runs."),
            _("Triggered"),
        ),
        ScheduleVerb(
            "delete",
            _("Delete"),
            _("It is deleted; what it started continues. Code that declares it makes it again."),
            _("Deleted"),
            is_drastic=True,
        ),
    )
}


class ScheduleAdmin(EditingAdmin):
    """The admin of schedules."""

    list_template = "schedules.html"
    page_template = "schedule.html"

    def own_urls(self) -> list[Any]:
        """Return the addresses of the forms and of the verbs."""
        return [*self.form_urls(), self.own_path("apply/", self.apply_view, "apply")]

    def read_one(self, key: str) -> Schedule:
        """Return the schedule of this name."""
        return self.durable.get_schedule(key)

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return all schedules."""
        rows = [self._row(each) for each in self.durable.schedules()]
        add_url = self.address("add") if self.has_add_permission(request) else None
        return {"title": _t("Schedules"), "rows": rows, "add_url": add_url}

    def _row(self, schedule: Schedule) -> dict[str, Any]:
        last_id = schedule.last_id
        return {
            "schedule": schedule,
            "part": quoted(schedule.name),
            "url": self.address("change", schedule.name),
            "last_url": (
                None if last_id is None else self.address("change", last_id, model="instance")
            ),
        }

    def page_context(self, request: HttpRequest, key: str) -> dict[str, Any]:
        """Return all that is known of one schedule, with the instances that it started last."""
        schedule, prefix = self.found(key), f"{key}@"
        runs = (
            self.durable.find(id_prefix=prefix, limit=_MOST_RUNS).items
            if _may_look(self, request)
            else []
        )
        may_edit = self.has_change_permission(request)
        return {
            **self._row(schedule),
            "catch_up": length_text(row_of_schedule(schedule).catch_up),
            "jitter": length_text(row_of_schedule(schedule).jitter),
            "why_read_only": why_read_only(self.durable, schedule),
            "edit_url": self.address("edit", key) if may_edit else None,
            "input": self._input(schedule) if self.may_see_payloads(request) else None,
            "verbs": [
                verb
                for verb in SCHEDULE_VERBS.values()
                if self.may(request, verb.permission) and verb.fits(schedule)
            ],
            "apply_url": self.address("apply"),
            "runs": [
                {
                    "run": run,
                    "url": self.address("change", run.id, model="instance"),
                    "status": str(run.runtime_status),
                    "status_label": STATUS_LABELS[run.runtime_status],
                }
                for run in runs
            ],
            "runs_url": (
                f"{self.address('changelist', model='instance')}?{urlencode({'q': prefix})}"
            ),
        }

    def _input(self, schedule: Schedule) -> Payload:
        """Return what it starts with, as the page shows it."""
        codec, text = self.durable.runtime.codec, row_of_schedule(schedule).input

        def read() -> dict[str, Any]:
            args, kwargs = codec.decode(text)
            return {"args": args, "kwargs": kwargs}

        return shown_payload("input", _t("Arguments"), read)

    @only_post
    def apply_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask whether and why; and, with that answered, do it."""
        verb = SCHEDULE_VERBS.get(request.POST.get("verb", ""))
        if verb is None:
            raise BadRequest("no such verb")
        self.require(request, verb.permission)
        key = unquoted(request.POST.get("name", ""))
        schedule = self.found(key)
        form = ReasonForm(request.POST if "confirm" in request.POST else None)
        if not form.is_valid():
            context = {
                "title": _t("%(verb)s: schedule %(name)s") % {"verb": verb.label, "name": key},
                "verb": verb,
                "form": form,
                "part": quoted(key),
                "apply_url": self.address("apply"),
                "back_url": self.address("change", key),
            }
            return self.rendered(request, "confirm_schedule.html", context)
        return self._applied(request, verb, schedule, form.cleaned_data["reason"])

    def _applied(
        self, request: HttpRequest, verb: ScheduleVerb, schedule: Schedule, reason: str
    ) -> HttpResponseBase:
        key = schedule.name
        if not verb.fits(schedule):
            messages.warning(request, _t("Schedule %s needed nothing.") % key)
            return HttpResponseRedirect(self.address("change", key))
        try:
            started = verb.apply(schedule, f"{reason} ({request.user.get_username()})")
        except DurableError as problem:
            self.show_refusals(request, [str(problem)])
            return HttpResponseRedirect(self.address("change", key))
        message = _t("%(done)s. Reason: %(reason)s") % {"done": verb.done, "reason": reason}
        self.log(request, [key], message, DELETION if verb.name == "delete" else CHANGE)
        messages.success(request, f"{verb.done}: {started or key}")
        if started and _may_look(self, request):
            return HttpResponseRedirect(self.address("change", started, model="instance"))
        return HttpResponseRedirect(
            self.address("changelist") if verb.name == "delete" else self.address("change", key)
        )


def _may_look(admin: ScheduleAdmin, request: HttpRequest) -> bool:
    """Tell whether the user may see orchestrations, too."""
    return admin.may(request, "view_instance")
