"""Orchestrations in the admin: the list, the page of one with its timeline, and the verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ....app.switching import shown_pauses
from ....core.entity import ORCHESTRATORS
from ....core.status import RuntimeStatus
from ....errors import ActivityError, PayloadError
from ....handles.orchestration import Orchestration
from ....inspection import drawing, views
from ....inspection.failures import FailureView
from ....inspection.instance_page import (
    custom_statuses,
    explained_view,
    past_of,
    shown_failure,
    tally_view,
)
from .addresses import quoted, unquoted
from .applying import ApplyingAdmin
from .asking import AskingAdmin
from .audit import audit_rows
from .filters import STATUS_LABELS, FilterForm
from .history import EVENTS_PER_PAGE, history_table
from .pages import age_of, only_post
from .payloads import pretty, shown_payload
from .secrecy import without_messages, without_notes
from .starting import StartingAdmin
from .verbs import Verb, admin_verbs

__all__ = ["InstanceAdmin"]

ROWS_PER_PAGE = 100
_MOST_CHILDREN = 20
_MOST_NAMES = 200
_MOST_ENTRIES = 20
_MAY_PAUSE = "suspend_instance"
_MOST_EXAMPLES = 100
_PAYLOADS = {
    "input": gettext_lazy("Input"),
    "output": gettext_lazy("Output"),
    "custom_status": gettext_lazy("Custom status"),
    "failure": gettext_lazy("Failure"),
}


class InstanceAdmin(StartingAdmin, AskingAdmin, ApplyingAdmin):
    """The admin of orchestrations; every row comes from ``durable.find`` and ``durable.get``."""

    list_template = "instances.html"
    page_template = "instance.html"

    def own_urls(self) -> list[Any]:
        """Return the addresses of starts, of the verbs and of the payloads."""
        return [
            self.own_path("add/", self.start_view, "add"),
            self.own_path("apply/", self.apply_view, "apply"),
            self.own_path("unpause/", self.unpause_view, "unpause"),
            self.own_path("<path:object_id>/ask/", self.ask_view, "ask"),
            self.own_path("<path:object_id>/payload/<slug:which>/", self.payload_view, "payload"),
        ]

    def read_one(self, key: str) -> Orchestration:
        """Return the orchestration with this id."""
        return self.durable.get(key)

    # -- the list ----------------------------------------------------------------------------------

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return a page of the list: two or three queries, whatever the number of
        orchestrations.
        """
        form = FilterForm(request.GET)
        context: dict[str, Any] = {
            "form": form,
            "apply_url": self.address("apply"),
            "verbs": self._verbs(request),
            "rows": [],
            "pauses": shown_pauses(self.durable),
            "may_unpause": self.may(request, _MAY_PAUSE),
            "unpause_url": self.address("unpause"),
            "names": self._names(),
            "tally": self._tally(),
            "title": _("Orchestrations"),
            "add_url": self.address("add") if self.has_add_permission(request) else None,
        }
        if not form.is_valid():
            return context
        filters = {
            name: value for name, value in request.GET.lists() if name in form.fields and any(value)
        }
        try:
            page = self.durable.find(
                limit=ROWS_PER_PAGE, cursor=request.GET.get("cursor") or None, **form.filters
            )
        except ValueError:
            form.add_error(None, _("This address is not one of a page; here is the first one."))
            page = self.durable.find(limit=ROWS_PER_PAGE, **form.filters)
        return context | {
            "rows": self._rows(request, page.items),
            "query": request.GET.urlencode(),
            "is_filtered": bool(filters),
            "first_url": "?" + urlencode(filters, doseq=True) if page.previous_cursor else None,
            "previous_url": self._page_url(filters, page.previous_cursor),
            "next_url": self._page_url(filters, page.next_cursor),
        }

    @only_post
    def unpause_view(self, request: HttpRequest) -> HttpResponseBase:
        """Let go of what a pause holds."""
        self.require(request, _MAY_PAUSE)
        kind, name = request.POST.get("kind", ""), request.POST.get("name", "")
        try:
            was_paused = self.durable.unpause(**{kind: name})
        except (TypeError, ValueError) as error:
            raise BadRequest(str(error)) from error
        if was_paused:
            messages.success(request, _("Unpaused: %(name)s") % {"name": name})
        else:
            messages.warning(request, _("%(name)s is not paused.") % {"name": name})
        return HttpResponseRedirect(self.address("changelist"))

    def _names(self) -> list[str]:
        """Return the orchestrators that this process has, and those that instances have."""
        known = {
            *self.durable.registry.names(),
            *self.durable.runtime.store.reads.names(_MOST_NAMES),
        }
        return sorted(name for name in known if not name.startswith(ORCHESTRATORS))

    def _tally(self) -> list[dict[str, Any]]:
        """Return how many orchestrations there are of each status, as far as that is cheap."""
        return [
            {
                **each,
                "label": STATUS_LABELS[RuntimeStatus(each["status"])],
                "url": f"?{urlencode({'status': each['status']})}",
            }
            for each in tally_view(self.durable)
        ]

    def _page_url(self, filters: Mapping[str, Any], cursor: str | None) -> str | None:
        return (
            None if cursor is None else "?" + urlencode({**filters, "cursor": cursor}, doseq=True)
        )

    def _rows(self, request: HttpRequest, runs: Sequence[Orchestration]) -> list[dict[str, Any]]:
        waits = views.current_waits(self.durable, runs)
        if not self.may_see_payloads(request):
            waits = without_messages(waits)
        statuses = custom_statuses(self.durable, runs) if self.may_see_payloads(request) else {}
        return [
            self._row(run, waits.get(run.id, "")) | {"custom_status": statuses.get(run.id)}
            for run in runs
        ]

    def _row(self, run: Orchestration, waits_for: str = "") -> dict[str, Any]:
        return {
            "id": run.id,
            "part": quoted(run.id),
            "url": self.address("change", run.id),
            "name": run.name,
            "version": run.version,
            "status": str(run.runtime_status),
            "status_label": STATUS_LABELS[run.runtime_status],
            "waits_for": waits_for,
            "tags": sorted(run.tags.items()),
            "created_at": run.created_at,
            "age": age_of(run.created_at),
            "updated_at": run.updated_at,
            "moved": age_of(run.updated_at),
        }

    def _verbs(self, request: HttpRequest) -> list[Verb]:
        return [verb for verb in admin_verbs().values() if self.may(request, verb.permission)]

    # -- the page of one ---------------------------------------------------------------------------

    def page_context(self, request: HttpRequest, key: str) -> dict[str, Any]:
        """Return all that is known of one orchestration."""
        run, may_see = self.found(key), self.may_see_payloads(request)
        parent_id = run.parent_id
        return {
            "run": (
                self._row(run) | {"started_at": run.started_at, "completed_at": run.completed_at}
            ),
            "is_entity": run.name.startswith(ORCHESTRATORS),
            "tags": sorted(run.tags.items()),
            "reason": run.reason if may_see else views.without_message(run.reason),
            "explanation": explained_view(run.explain(), messages=may_see),
            "parent": (
                None
                if parent_id is None
                else {"id": parent_id, "url": self.address("change", parent_id)}
            ),
            "payloads": self._payloads(run, key) if may_see else [],
            "verbs": [verb for verb in self._verbs(request) if verb.fits(run)],
            "apply_url": self.address("apply"),
            "ask_url": self.ask_url(request, run),
            "part": quoted(key),
            "audit": audit_rows(self, request, run.audit(_MOST_ENTRIES)),
            **self._children(request, key),
            **self._past(request, run, may_see),
        }

    def _children(self, request: HttpRequest, key: str) -> dict[str, Any]:
        page = self.durable.find(parent_id=key, limit=_MOST_CHILDREN)
        more = (
            None
            if page.next_cursor is None
            else f"{self.address('changelist')}?{urlencode({'parent': key})}"
        )
        return {"children": self._rows(request, page.items), "more_children_url": more}

    def _past(self, request: HttpRequest, run: Orchestration, may_see: bool) -> dict[str, Any]:
        """Return the timeline and the history, or why they cannot be read."""
        links = drawing.Links(
            lambda id_: self.address("change", id_),
            lambda number: f"?page={(number - 1) // EVENTS_PER_PAGE + 1}#event-{number}",
        )
        try:
            past = past_of(run, links, (lambda whole: whole) if may_see else without_notes)
            history = history_table(
                run,
                past.events,
                only_failed=request.GET.get("events") == "failed",
                number=request.GET.get("page"),
                payloads=may_see,
            )
        except PayloadError as problem:
            return {"damage": str(problem) if may_see else type(problem).__name__}
        # all of these escape what they are given
        return {
            "svg": mark_safe(past.svg),  # noqa: S308
            "whole_svg": mark_safe(past.whole_svg),  # noqa: S308
            "table": mark_safe(past.table),  # noqa: S308
            "history": history,
            "failure": None if past.failure is None else self._failed(past.failure, may_see),
        }

    def _failed(self, failure: FailureView, may_see: bool) -> dict[str, Any]:
        """Return what went wrong, as the page shows it; messages may hold payloads."""
        shown = shown_failure(failure, messages=may_see)
        for call in shown["calls"]:
            call["url"] = self.address("change", call["instance_id"])
        return shown

    # -- payloads ----------------------------------------------------------------------------------

    def _payloads(self, run: Orchestration, key: str) -> list[dict[str, Any]]:
        return [
            {
                "payload": shown_payload(name, label, _reader(run, name)),
                "download_url": self.address("payload", key, name),
            }
            for name, label in _PAYLOADS.items()
        ]

    def payload_view(self, request: HttpRequest, object_id: str, which: str) -> HttpResponse:
        """Answer with a whole payload, as a file."""
        self.require(request, "view_payload")
        if which not in _PAYLOADS:
            raise Http404(f"there is no payload {which!r}")
        run = self.found(unquoted(object_id))
        response = HttpResponse(
            pretty(_reader(run, which)()), content_type="application/json; charset=utf-8"
        )
        response["Content-Disposition"] = f'attachment; filename="{which}.json"'
        response["X-Content-Type-Options"] = "nosniff"
        return response


def _reader(run: Orchestration, name: str) -> Callable[[], Any]:
    """Return how to read a payload of an orchestration."""
    return (lambda: _failure_of(run)) if name == "failure" else (lambda: getattr(run, name))


def _failure_of(run: Orchestration) -> dict[str, Any] | None:
    failure = run.failure
    if failure is None:
        return None
    kind, notes = type(failure), getattr(failure, "__notes__", ())
    found = {"type": f"{kind.__module__}.{kind.__qualname__}", "message": str(failure)}
    trace = "\n".join(notes)
    if isinstance(failure, ActivityError):
        found, trace = (
            {"type": failure.type, "message": failure.message},
            failure.traceback or trace,
        )
    return found | {"traceback": trace.splitlines()}
