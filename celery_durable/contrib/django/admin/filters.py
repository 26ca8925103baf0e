"""The filters of the list of orchestrations: what the address says, as the filters of
``durable.find``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ....core.status import RuntimeStatus

__all__ = ["STATUS_LABELS", "FilterForm"]

STATUS_LABELS = {
    RuntimeStatus.PENDING: _("pending"),
    RuntimeStatus.RUNNING: _("running"),
    RuntimeStatus.SUSPENDED: _("suspended"),
    RuntimeStatus.COMPLETED: _("completed"),
    RuntimeStatus.FAILED: _("failed"),
    RuntimeStatus.CANCELED: _("canceled"),
    RuntimeStatus.TERMINATED: _("terminated"),
}
_TAG = re.compile(r"""(?:^|\s)tag:(?:"([^"]*)"|(\S+))""")
_SINCE = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}


class FilterForm(forms.Form):
    """The form above the list; every field may be left out."""

    q: forms.CharField = forms.CharField(
        label=_("Search"), required=False, max_length=400, strip=False
    )
    status: forms.MultipleChoiceField = forms.MultipleChoiceField(
        label=_("Status"),
        required=False,
        choices=[(str(key), label) for key, label in STATUS_LABELS.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    name: forms.CharField = forms.CharField(
        label=_("Orchestration"), required=False, max_length=200
    )
    version: forms.CharField = forms.CharField(label=_("Version"), required=False, max_length=50)
    since: forms.ChoiceField = forms.ChoiceField(
        label=_("Created"),
        required=False,
        choices=[
            ("", _("at any time")),
            ("1h", _("in the last hour")),
            ("24h", _("in the last 24 hours")),
            ("7d", _("in the last 7 days")),
            ("30d", _("in the last 30 days")),
        ],
    )
    stuck: forms.BooleanField = forms.BooleanField(label=_("Stuck only"), required=False)
    roots: forms.BooleanField = forms.BooleanField(label=_("No sub-orchestrations"), required=False)
    parent: forms.CharField = forms.CharField(
        required=False, max_length=150, strip=False, widget=forms.HiddenInput
    )

    def clean_q(self) -> str:
        """Split the search into tags, and the prefix of an id."""
        text = str(self.cleaned_data["q"])
        found = [quoted or plain for quoted, plain in _TAG.findall(text)]
        if bad := [tag for tag in found if not tag.partition("=")[0] or "=" not in tag]:
            raise forms.ValidationError(_("“%s” is not a tag: write tag:customer=7") % bad[0])
        self.tags: dict[Any, Any] = {tag.partition("=")[0]: tag.partition("=")[2] for tag in found}
        rest = _TAG.sub("", text)
        self.id_prefix: str = rest.strip() if found or rest.isspace() else rest
        return text

    @property
    def filters(self) -> dict[str, Any]:
        """What ``durable.find`` takes; only of a form that is valid."""
        given = self.cleaned_data
        since = _SINCE.get(given["since"])
        found = {
            "status": given["status"],
            "name": given["name"],
            "version": given["version"],
            "tags": self.tags,
            "id_prefix": self.id_prefix,
            "parent_id": given["parent"],
            "stuck": given["stuck"],
            "roots": given["roots"],
            "created_after": None if since is None else datetime.now(UTC) - since,
        }
        return {name: value for name, value in found.items() if value}
