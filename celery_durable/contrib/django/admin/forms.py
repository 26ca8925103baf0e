"""The forms of the confirmation pages: why, and what else a verb takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ....engine.verb import Argument, Kind, Surface, Verb
from .inputs import JsonField, LineField

__all__ = ["ReasonForm", "form_of", "given_in"]


class ReasonForm(forms.Form):
    """Asks for a reason, which may not be left out."""

    reason: LineField = LineField(label=_("Reason"), max_length=500)


def form_of(verb: Verb) -> type[ReasonForm]:
    """Return the form that asks for the arguments of a verb, and for the reason."""
    fields = {
        each.name_in(Surface.ADMIN): _field(each) for each in verb.arguments_in(Surface.ADMIN)
    }
    return type("VerbForm", (ReasonForm,), {**fields, "field_order": (*fields, "reason")})


def _field(argument: Argument) -> forms.Field:
    common: dict[str, Any] = {
        "label": _(argument.label_in(Surface.ADMIN)),
        "required": argument.is_required,
        "help_text": _(argument.hint) if argument.hint else "",
    }
    if argument.kind is Kind.FLAG:
        return forms.BooleanField(**common | {"required": False}, initial=argument.default)
    if argument.kind is Kind.NUMBER:
        return forms.IntegerField(**common, initial=argument.default)
    if argument.kind is Kind.JSON:
        return JsonField(**common, max_length=argument.longest)
    return LineField(
        **common,
        strip=not argument.is_required,  # a name is taken as it is written
        max_length=argument.longest,
    )


def given_in(verb: Verb, cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a verb from its form; what was left empty has its default."""
    given: dict[str, Any] = {}
    for argument in verb.arguments_in(Surface.ADMIN):
        value = cleaned[argument.name_in(Surface.ADMIN)]
        if value in ("", None) and not argument.is_required:
            value = argument.default
        is_error = argument.kind is Kind.ERROR and value is not None
        given[argument.name] = RuntimeError(value) if is_error else value
    return given
