"""Asking an orchestration in the admin: a request, and its answer on the page."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....core.entity import ORCHESTRATORS
from ....engine.audit import HIDDEN, INSTANCE
from ....engine.verbs.events import RAISE_EVENT
from ....errors import InvalidState, PayloadError
from ....handles.asking import answer_of
from ....handles.orchestration import Orchestration
from ....inspection.awaiting import REQUEST, awaited_by
from .addresses import unquoted
from .events import OfferingForm
from .inputs import JsonField, LineField
from .pages import ClosedAdmin
from .payloads import Payload, shown_payload

__all__ = ["AskingAdmin"]

#: Seconds that a page waits for an answer.
PATIENCE = 5.0


class AskForm(OfferingForm):
    """Asks for a request."""

    name_field = "request_name"

    request_name: LineField = LineField(label=_("Request name"), max_length=200, strip=False)
    data: JsonField = JsonField(
        label=_("Data"),
        required=False,
        max_length=1_000_000,
        help_text=_('JSON, such as {"city": "Rome"}; nothing is null.'),
    )
    #: The same request sent again is the same request, and gets the answer that there is.
    fresh: forms.UUIDField = forms.UUIDField(widget=forms.HiddenInput)
    field_order = ("awaited", "request_name", "data", "reason")

    def request_id(self, instance_id: str) -> str:
        """Return the id of the request; only of a form that is valid."""
        given = self.cleaned_data
        what = [str(given["fresh"]), instance_id, given["request_name"], given["data"]]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


class AskingAdmin(ClosedAdmin):
    """The part of the orchestrations' admin that asks them."""

    def ask_url(self, request: HttpRequest, run: Orchestration) -> str | None:
        """Return where an orchestration is asked; None if it, or the user, cannot."""
        is_askable = not (run.runtime_status.is_terminal or run.name.startswith(ORCHESTRATORS))
        may = self.may(request, RAISE_EVENT.permission)
        return self.address("ask", run.id) if is_askable and may else None

    def ask_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Ask for a request; and, with that given, wait a little for its answer."""
        self.require(request, RAISE_EVENT.permission)
        run: Orchestration = self.found(unquoted(object_id))
        own = {"offered": awaited_by(run, REQUEST), "instance_id": run.id}
        form_class = type("AskForm", (AskForm,), own)
        answer, is_sent = None, request.method == "POST"
        form = form_class(request.POST if is_sent else None, initial={"fresh": uuid.uuid4()})
        if is_sent and form.is_valid():
            answer = self._answer(request, run, form)
            if answer is not None:
                form = form_class(initial={**form.cleaned_data, "data": "", "fresh": uuid.uuid4()})
        context = {
            "title": _t("Ask %s") % run.id,
            "form": form,
            "answer": answer,
            "back_url": self.address("change", run.id),
        }
        return self.rendered(request, "ask.html", context)

    def _answer(self, request: HttpRequest, run: Orchestration, form: AskForm) -> Payload | None:
        """Return the answer as the page shows it; None if there is none, which the form, or a
        message, tells.
        """
        given, target = form.cleaned_data, form.target(run.id)
        name, durable = given["request_name"], self.durable
        shown = {"name": name, "data": HIDDEN}
        self.log(request, [target], _t("Asked: %(name)s. Reason: %(reason)s") % given_in(given))
        try:
            with durable.runtime.client.auditor.around(INSTANCE, target, "ask", None, shown):
                answer = answer_of(
                    durable.get(target), name, given["data"], PATIENCE, form.request_id(target)
                )
        except TimeoutError:
            text = _t("There is no answer yet. Ask the same again to wait for it.")
            messages.warning(request, text)
            return None
        except (InvalidState, PayloadError, ValueError) as error:
            form.add_error("data" if isinstance(error, PayloadError) else None, str(error))
            return None
        return self._shown(request, answer)

    def _shown(self, request: HttpRequest, answer: Any) -> Payload | None:
        codec, may_see = self.durable.runtime.codec, self.may_see_payloads(request)
        if answer.has_failed:
            error, _notes = codec.decode_failure(answer.payload or "", may_rebuild=False)
            kind, message = getattr(error, "type", ""), getattr(error, "message", str(error))
            kind = kind or type(error).__name__
            text = f"{kind.rpartition('.')[2]}: {message}" if may_see else kind
            messages.error(request, _t("It rejected the request: %s") % text)
            return None
        messages.success(request, _t("It has answered."))
        if not may_see:
            return None
        return shown_payload("answer", _t("Answer"), lambda: codec.decode(answer.payload or "null"))


def given_in(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the admin's log says of a request."""
    return {"name": given["request_name"], "reason": given["reason"]}
