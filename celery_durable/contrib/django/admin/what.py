"""What is to be started: an orchestrator or a task, and its arguments, as a part of forms."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....app.durable import Durable
from ....core.entity import RESERVED
from ....core.misspelt import near_names
from .inputs import LINE, JsonField

__all__ = ["TASKS", "WhatForm", "field_of_arguments", "known_tasks"]

log: logging.Logger = logging.getLogger("celery_durable.admin")
#: The id of the list that the field of the name offers.
TASKS = "durable-tasks"
_QUOTED = re.compile(r"'([^']+)'")


def known_tasks(durable: Durable) -> list[tuple[str, bool]]:
    """Return what this process can start: names, and whether each is an orchestrator; those first.

    The modules of tasks are imported as a worker would, so that all of the project are there; one
    that cannot be is told in the log, and takes no page away.
    """
    try:
        durable.app.loader.import_default_modules()
    except Exception:
        log.warning("not all tasks are offered: one module cannot be imported", exc_info=True)
    registry = durable.registry
    names = [name for name in durable.app.tasks if not name.startswith(("celery.", RESERVED))]
    return sorted(
        ((name, name in registry) for name in names), key=lambda each: (not each[1], each)
    )


class WhatForm(forms.Form):
    """Asks for a task that is known here, and for its arguments."""

    task: forms.CharField = forms.CharField(
        label=_("Orchestrator or task"),
        max_length=200,
        widget=forms.TextInput(attrs={**LINE, "list": TASKS}),
    )
    args: JsonField = JsonField(
        of=list,
        label=_("Arguments"),
        required=False,
        max_length=1_000_000,
        help_text=_('A JSON list, such as ["order-42", 3].'),
    )
    kwargs: JsonField = JsonField(
        of=dict,
        label=_("Named arguments"),
        required=False,
        max_length=1_000_000,
        help_text=_('A JSON object, such as {"amount": 3}.'),
    )

    def __init__(self, durable: Durable, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.durable = durable
        self.known: Sequence[tuple[str, bool]] = known_tasks(durable)

    def clean_task(self) -> str:
        """Refuse a name that nothing here has."""
        name, names = str(self.cleaned_data["task"]), [name for name, _ in self.known]
        if name in names:
            return name
        near = near_names(name, names, 3, 0.5)
        hint = _t(" Did you mean %(names)s?") % {"names": ", ".join(near)} if near else ""
        raise forms.ValidationError(
            _t("There is no orchestrator or task “%(name)s” in this process.%(hint)s")
            % {"name": name[:80], "hint": hint}
        )

    @property
    def signature(self) -> Any:
        """What is to be started; only of a form that is valid."""
        given = self.cleaned_data
        return self.durable.app.signature(
            given["task"], args=tuple(given["args"] or ()), kwargs=dict(given["kwargs"] or {})
        )


def field_of_arguments(error: Exception, form: forms.Form) -> str:
    """Return which field of a form an error about arguments belongs to: the one that was filled in,
    and of both the named ones if the error names one of them.
    """
    filled = [name for name in ("args", "kwargs") if name in form.changed_data]
    if len(filled) < 2:
        return filled[0] if filled else "args"
    names = set(_QUOTED.findall(str(error)))
    return "kwargs" if names & set(form.cleaned_data.get("kwargs") or {}) else "args"
