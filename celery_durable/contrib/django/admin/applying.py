"""Applying a verb from the admin: it is asked for, confirmed with a reason, done, and reported."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import messages
from django.contrib.admin.models import CHANGE, DELETION
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ....engine.verbs.events import RAISE_EVENT
from ....errors import DurableError, InstanceNotFound
from ....inspection.awaiting import EVENT, awaited_by
from .chosen import Chosen, ids_of
from .events import OfferingForm, offering_form
from .filters import STATUS_LABELS
from .forms import ReasonForm, form_of, given_in
from .pages import ClosedAdmin, only_post
from .verbs import MOST_AT_ONCE, Outcome, Verb, admin_verbs, apply, targets

__all__ = ["ApplyingAdmin"]

_MOST_EXAMPLES = 100


class ApplyingAdmin(ClosedAdmin):
    """The part of the orchestrations' admin that changes something."""

    @only_post
    def apply_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask whether and why; and, with that answered, do it."""
        self.require(request)
        name = request.POST.get("verb", "")
        if not name:
            messages.warning(request, _("Choose an action."))
            return HttpResponseRedirect(self._back(request))
        if (verb := admin_verbs().get(name)) is None:
            raise BadRequest("no such verb")
        self.require(request, verb.permission)
        chosen = Chosen(self.durable, verb, request.POST)
        if chosen.is_empty:
            messages.warning(request, _("Select at least one orchestration."))
            return HttpResponseRedirect(self._back(request))
        has_answer = "confirm" in request.POST
        form = self._form_of(verb, chosen)(request.POST if has_answer else None)
        if not has_answer or not form.is_valid():
            return self._confirmation(request, verb, chosen, form)
        ids = chosen.ids()
        if isinstance(form, OfferingForm):
            ids = [form.target(ids[0])]
        try:
            outcomes = apply(
                self.durable,
                verb,
                ids,
                self._signed(request, form),
                given_in(verb.row, form.cleaned_data),
                shows_errors=self.may_see_payloads(request),
            )
        except ValueError as problem:  # also of a payload that cannot be stored
            form.add_error(None, str(problem))
            return self._confirmation(request, verb, chosen, form)
        self._report(request, verb, outcomes, form.cleaned_data["reason"])
        return HttpResponseRedirect(self._back(request, verb, outcomes))

    def _form_of(self, verb: Verb, chosen: Chosen) -> type[ReasonForm]:
        """Return the form that asks; an event for one orchestration is chosen from those that it
        waits for.
        """
        ids = chosen.ids(2)
        if verb.name == RAISE_EVENT.name and len(ids) == 1:
            try:
                offered = awaited_by(self.durable.get(ids[0]), EVENT)
            except (InstanceNotFound, ValueError):
                offered = []  # what comes of it says so
            if offered:
                return offering_form(verb.row, ids[0], offered)
        return form_of(verb.row)

    def _confirmation(
        self, request: HttpRequest, verb: Verb, chosen: Chosen, form: ReasonForm
    ) -> HttpResponse:
        context = {
            "title": verb.question,
            "verb": verb,
            "form": form,
            "apply_url": self.address("apply"),
            "chosen": chosen,
            "count": chosen.count(),
            "most": MOST_AT_ONCE,
            "back_url": self._back(request),
            "forecast": self._forecast(request, verb, chosen),
            "targets": [
                {
                    "id": each.id,
                    "url": self.address("change", each.id),
                    "note": each.note,
                    "status": each.status,
                    "status_label": STATUS_LABELS.get(each.status),  # type: ignore[arg-type]
                }
                for each in targets(self.durable, verb, chosen.ids(_MOST_EXAMPLES))
            ],
        }
        return self.rendered(request, "confirm.html", context)

    def _forecast(self, request: HttpRequest, verb: Verb, chosen: Chosen) -> str | None:
        """Return what a rewind of one orchestration would do, where the code is here to tell."""
        ids = chosen.ids(2)
        if verb.name != "rewind" or len(ids) != 1:
            return None
        try:
            return str(self.durable.get(ids[0]).rewind(dry_run=True))
        except (DurableError, ValueError) as error:
            shows = self.may_see_payloads(request)
            why = str(error) if shows else type(error).__name__
            return str(_("It cannot be told beforehand: %(why)s") % {"why": why})

    def _signed(self, request: HttpRequest, form: ReasonForm) -> str:
        return f"{form.cleaned_data['reason']} ({request.user.get_username()})"

    def _report(
        self, request: HttpRequest, verb: Verb, outcomes: Sequence[Outcome], reason: str
    ) -> None:
        done = [each.id for each in outcomes if not each.refusal and not each.had_no_effect]
        idle = [each.id for each in outcomes if each.had_no_effect]
        refusals = [each.refusal for each in outcomes if each.refusal]
        message = _("%(done)s. Reason: %(reason)s") % {
            "done": capfirst(verb.done),
            "reason": reason,
        }
        self.log(request, done, message, DELETION if verb.row.deletes else CHANGE)
        if done:
            if len(done) == 1 and done != ids_of(request.POST)[:1] and "all" not in request.POST:
                messages.info(request, _("It was done to the sub-orchestration %s.") % done[0])
            text = ngettext(
                "%(count)d orchestration was %(done)s.",
                "%(count)d orchestrations were %(done)s.",
                len(done),
            )
            messages.success(request, text % {"count": len(done), "done": verb.done})
        if idle:
            text = ngettext(
                "%(count)d orchestration needed nothing: %(ids)s.",
                "%(count)d orchestrations needed nothing: %(ids)s.",
                len(idle),
            )
            messages.warning(
                request,
                text
                % {
                    "count": len(idle),
                    "ids": ", ".join(idle[:10]) + ("…" if len(idle) > 10 else ""),
                },
            )
        self.show_refusals(request, refusals)

    def _back(
        self, request: HttpRequest, verb: Verb | None = None, outcomes: Sequence[Outcome] = ()
    ) -> str:
        """Return where the user came from: the page of the only one, or the list with its
        filters.
        """
        ids = ids_of(request.POST)
        was_purged = (
            verb is not None and verb.row.deletes and not any(each.refusal for each in outcomes)
        )
        if "from_page" in request.POST and len(ids) == 1 and not was_purged:
            return self.address("change", ids[0])
        query = QueryDict(request.POST.get("query", "")).urlencode()
        return self.address("changelist") + (f"?{query}" if query else "")
