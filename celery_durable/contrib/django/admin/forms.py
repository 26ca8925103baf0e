"""The forms of the confirmation pages: why, and of an event what."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ....payload import check_json

__all__ = ["EventForm", "ReasonForm"]


class ReasonForm(forms.Form):
    """Asks for a reason, which may not be left out."""

    reason = forms.CharField(
        label=_("Reason"), max_length=500, widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )  # fmt: skip


class EventForm(ReasonForm):
    """Asks for an event, too."""

    event_name = forms.CharField(
        label=_("Event name"), max_length=200, strip=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )  # fmt: skip
    data = forms.CharField(
        label=_("Data"), required=False, strip=True, max_length=1_000_000,
        help_text=_("JSON, such as {\"by\": \"ann\"} or \"yes\"; nothing is null."),
        widget=forms.Textarea(attrs={"rows": 6, "class": "vLargeTextField", "spellcheck": "false"}),
    )  # fmt: skip
    event_id = forms.CharField(
        label=_("Event id"), required=False, max_length=200,
        help_text=_("An event of an id that has arrived already is left out; empty is a fresh one."),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )  # fmt: skip
    field_order = ("event_name", "data", "event_id", "reason")

    def clean_data(self) -> Any:
        """Read the data as strict JSON."""
        text = self.cleaned_data["data"]
        if not text:
            return None
        try:
            value = json.loads(text, parse_constant=_refuse)
            json.dumps(value, ensure_ascii=False).encode()
            check_json(text)
        except RecursionError:
            raise forms.ValidationError(_("This is nested too deeply."))
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                _("This is not JSON: %(problem)s in line %(line)s, column %(column)s."),
                params={"problem": error.msg, "line": error.lineno, "column": error.colno},
            )
        except ValueError as error:
            raise forms.ValidationError(_("This is not JSON: %(problem)s."), params={"problem": error})
        return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")
