"""Raising an event on what waits for it, and asking what waits for a request: the names that are
waited for now are offered, those of sub-orchestrations included; any other can be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....engine.verb import Surface, Verb
from ....inspection.awaiting import Awaited, awaited_of
from .forms import ReasonForm, form_of

__all__ = ["OfferingForm", "offering_form"]

_OTHER = ""


class OfferingForm(ReasonForm):
    """Offers what is waited for; the field of the name is for what is not.

    Set by ``offering_form``: ``offered``, ``name_field`` and ``instance_id``.
    """

    offered: Sequence[Awaited] = ()
    name_field = ""
    instance_id = ""

    awaited: forms.ChoiceField = forms.ChoiceField(
        label=_("It waits for"),
        required=False,
        widget=forms.RadioSelect(),
        error_messages={"invalid_choice": _("It does not wait for this any more.")},
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not self.offered:
            del self.fields["awaited"]
            return
        own = [(each.value, self._label_of(each)) for each in self.offered]
        field: Any = self.fields["awaited"]
        field.choices = [*own, (_OTHER, _t("another name, written below"))]
        field.initial = self.offered[0].value
        self.fields[self.name_field].required = False
        self.fields[self.name_field].help_text = _t(
            "Only for another one; it then goes to %(id)s."
        ) % {"id": self.instance_id}

    def _label_of(self, each: Awaited) -> str:
        if each.instance_id == self.instance_id:
            return each.name
        text = _t("%(name)s, of its sub-orchestration %(id)s (%(orchestrator)s)")
        return str(
            text % {"name": each.name, "id": each.instance_id, "orchestrator": each.orchestrator}
        )

    def clean(self) -> dict[str, Any]:
        """Take the name that is written, else the one that is chosen."""
        given = super().clean() or {}
        self.chosen: Awaited | None = None
        if self.offered and not given.get(self.name_field) and "awaited" in given:
            self.chosen = awaited_of(given["awaited"], self.offered)
            if self.chosen is None:
                self.add_error(self.name_field, _t("Choose a name, or write one."))
            else:
                given[self.name_field] = self.chosen.name
        return given

    def target(self, instance_id: str) -> str:
        """Return the id of the orchestration that is meant; only of a form that is valid."""
        return instance_id if self.chosen is None else self.chosen.instance_id


def offering_form(verb: Verb, instance_id: str, offered: Sequence[Awaited]) -> type[OfferingForm]:
    """Return the form of ``raise_event`` for one orchestration, with what is waited for.

    Args:
        verb: the row of the table.
        instance_id: of the orchestration.
        offered: what it waits for; at least one.
    """
    plain = form_of(verb)
    own = {
        "offered": offered,
        "instance_id": instance_id,
        "name_field": verb.arguments_in(Surface.ADMIN)[0].name_in(Surface.ADMIN),
        "field_order": ("awaited", *(plain.field_order or ())),
    }
    return type("OfferingForm", (OfferingForm, plain), own)
