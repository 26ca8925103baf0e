"""The forms that make a schedule and change one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from ....app.durable import Durable
from ....app.signatures import repeated
from ....core.cron import CronTimes, checked_line, zone_of
from ....errors import DurableError, PayloadError, StoreError
from ....handles.declare_schedule import create_schedule
from ....handles.edit_schedule import ScheduleEdit, edit_schedule
from ....handles.schedule import Schedule, check_name, row_of_schedule
from .inputs import LengthField, LineField, checked, length_text
from .what import WhatForm, field_of_arguments

__all__ = ["EditScheduleForm", "NewScheduleForm"]

_SHORTEST = 100_000  # microseconds between two ticks
_LONGEST = 100 * 366 * 86_400 * 1_000_000
_SECOND = 1_000_000
_WHAT = frozenset({"task", "args", "kwargs"})
_TIMES = frozenset({"cron", "interval"})
_LIMITS = ("overlap", "catch_up", "jitter")


class ScheduleForm(WhatForm):
    """Asks for what ``durable.schedule`` takes; each error is told at its field."""

    cron: LineField = LineField(
        label=_("Crontab line"),
        required=False,
        max_length=200,
        help_text=_("Minute, hour, day of month, month, day of week, such as 0 6 * * mon-fri."),
    )
    interval: LengthField = LengthField(
        least=_SHORTEST,
        most=_LONGEST,
        label=_("Or every"),
        required=False,
        help_text=_("Instead of a crontab line: 90 (seconds), 15m, 1.5h or 7d."),
    )
    tz: LineField = LineField(
        label=_("Time zone"),
        required=False,
        max_length=100,
        help_text=_("Of the crontab line, such as Europe/Berlin."),
    )
    overlap: forms.ChoiceField = forms.ChoiceField(
        label=_("If the one before still runs"),
        choices=[
            ("skip", _("leave this tick out")),
            ("buffer", _("start when it has ended (one tick at most)")),
            ("cancel", _("cancel it, and start")),
            ("allow", _("start beside it")),
        ],
    )
    catch_up: LengthField = LengthField(
        most=_LONGEST,
        label=_("Catch up"),
        initial="60s",
        help_text=_("How old a tick may be that no worker was there for, to run still."),
    )
    jitter: LengthField = LengthField(
        most=_LONGEST,
        label=_("Jitter"),
        initial="0s",
        help_text=_("Each start is delayed by up to so long."),
    )
    paused: forms.BooleanField = forms.BooleanField(
        label=_("Paused"), required=False, help_text=_("It starts nothing until it is resumed.")
    )
    reason: LineField = LineField(
        label=_("Reason"),
        required=False,
        max_length=500,
        help_text=_(
            "Kept in the audit trail, with your name; that of a pause with the schedule, too."
        ),
    )

    def __init__(self, durable: Durable, *args: Any, **options: Any) -> None:
        super().__init__(durable, *args, **options)
        self.fields["tz"].initial = str(durable.app.conf.timezone or "UTC")

    def clean_cron(self) -> str:
        """Refuse what is no crontab line."""
        line = self.cleaned_data["cron"]
        return checked(checked_line, line) if line else ""

    def clean_tz(self) -> str:
        """Refuse what is no time zone; empty is the app's."""
        name = self.cleaned_data["tz"] or str(self.durable.app.conf.timezone or "UTC")
        checked(zone_of, name)
        return name

    def clean(self) -> dict[str, Any]:
        """Refuse both times, or none, and a crontab line that no day matches."""
        given = super().clean() or {}
        if "cron" not in given or "interval" not in given:
            return given
        if given["cron"] and given["interval"] is not None:
            self.add_error("interval", _t("Give a crontab line or an interval, not both."))
        elif not given["cron"] and given["interval"] is None:
            self.add_error("cron", _t("Give a crontab line or an interval."))
        elif given["cron"] and "tz" in given:
            try:
                CronTimes(given["cron"], given["tz"]).after(self.durable.runtime.store.now())
            except ValueError as error:
                self.add_error("cron", str(error))
        return given

    def show_error(self, error: Exception) -> None:
        """Show why the store's side refused it, at its place.

        Raises:
            StoreError: the store cannot be reached.
        """
        if isinstance(error, StoreError):
            raise error
        is_of_arguments = isinstance(error, (PayloadError, TypeError, ValueError))
        self.add_error(field_of_arguments(error, self) if is_of_arguments else None, str(error))


class NewScheduleForm(ScheduleForm):
    """Makes one."""

    name: LineField = LineField(
        label=_("Name"),
        max_length=100,
        help_text=_("What a tick starts has the id <name>@<its time>."),
    )
    field_order = ("name",)

    def clean_name(self) -> str:
        """Refuse what no schedule can be called, and the name of one that is there."""
        name = str(self.cleaned_data["name"])
        checked(check_name, name)
        if name.startswith("@"):
            raise forms.ValidationError(_t("It does not begin with “@”, as ids of entities do."))
        if self.durable.runtime.store.schedules.get(name) is not None:
            raise self._taken()
        return name

    def _taken(self) -> forms.ValidationError:
        return forms.ValidationError(_t("There is a schedule of this name already."))

    def save(self) -> Schedule | None:
        """Make it; None if it was refused, which the form then tells at its place."""
        given, durable = self.cleaned_data, self.durable
        every = given["interval"]
        try:
            made = create_schedule(
                durable.app,
                given["name"],
                repeated(durable.runtime, self.signature, "durable.schedule()"),
                cron=given["cron"] or None,
                interval=None if every is None else every / _SECOND,
                tz=given["tz"],
                overlap=given["overlap"],
                catch_up=given["catch_up"] / _SECOND,
                jitter=given["jitter"] / _SECOND,
                is_paused=given["paused"],
                reason=given["reason"] or None,
            )
        except (DurableError, ValueError, TypeError) as error:
            self.show_error(error)
            return None
        if made is None:
            self.add_error("name", self._taken())
        return made


class EditScheduleForm(ScheduleForm):
    """Changes one. Only what the user has changed is written, whatever happened to the rest since
    the form was shown; a field that another user changed meanwhile is an error.

    Args:
        durable: where it is.
        schedule: as it is now.
        shows_arguments: whether the user may see what it starts with; if not, empty fields keep it.
    """

    def __init__(
        self, durable: Durable, schedule: Schedule, shows_arguments: bool, *args: Any
    ) -> None:
        self._now = _shown(durable, schedule, shows_arguments)
        super().__init__(durable, *args, initial=self._now)
        self._schedule = schedule
        for name in self._now:
            self.fields[name].show_hidden_initial = True
        if not shows_arguments:
            kept = _t("You may not see what it is now; empty keeps it.")
            for name in ("args", "kwargs"):
                self.fields[name].help_text = f"{self.fields[name].help_text} {kept}"

    def clean_task(self) -> str:
        """Let a task stay that this process does not know."""
        name = str(self.cleaned_data["task"])
        return name if name == self._now["task"] else super().clean_task()

    def clean(self) -> dict[str, Any]:
        """Refuse to write over what another user has changed since the form was shown."""
        given = super().clean()
        for name in self.changed_data:
            if name not in self._now or name in self.errors:
                continue
            field, now, shown = self.fields[name], self._now[name], self._shown_before(name)
            if shown is None or not field.has_changed(shown, now):
                continue
            if field.has_changed(now, self[name].data):
                text = _t("It was changed meanwhile, to: %s") % (
                    now if now not in ("", None) else "-"
                )
                self.add_error(name, text)
        return given

    def _shown_before(self, name: str) -> Any:
        """Return what a field had when the form was shown; None if the browser does not say."""
        return self.data.get(self.add_initial_prefix(name))

    def save(self) -> Schedule | None:
        """Write what was changed; None if it was refused, which the form then tells."""
        given, changed = self.cleaned_data, set(self.changed_data)
        every = given["interval"]
        try:
            edit = ScheduleEdit(
                request=self._request() if changed & _WHAT else None,
                cron=(given["cron"] or None) if changed & _TIMES else None,
                interval=every / _SECOND if changed & _TIMES and every is not None else None,
                tz=given["tz"] if "tz" in changed else None,
                limits={name: given[name] for name in _LIMITS if name in changed},
                is_paused=given["paused"] if "paused" in changed else None,
            )
            return edit_schedule(
                self.durable.app, self._schedule.name, edit, given["reason"] or None
            )
        except (DurableError, ValueError, TypeError) as error:
            self.show_error(error)
            return None

    def _request(self) -> Any:
        """Return the request for what it starts from now on; arguments that were left as they are
        stay.
        """
        given, durable, changed = self.cleaned_data, self.durable, set(self.changed_data)
        call = durable.runtime.codec.decode(row_of_schedule(self._schedule).input)
        args = given["args"] or [] if "args" in changed else call[0]
        kwargs = given["kwargs"] or {} if "kwargs" in changed else call[1]
        signature = durable.app.signature(given["task"], args=tuple(args), kwargs=dict(kwargs))
        return repeated(durable.runtime, signature, "durable.schedule()")


def _shown(durable: Durable, schedule: Schedule, shows_arguments: bool) -> Mapping[str, Any]:
    """Return the texts and values that the fields of a schedule have."""
    row = row_of_schedule(schedule)
    args, kwargs = _call(durable, row.input) if shows_arguments else ("", "")
    return {
        "task": row.orchestrator,
        "args": args,
        "kwargs": kwargs,
        "cron": row.cron or "",
        "interval": "" if row.every is None else length_text(row.every),
        "tz": row.timezone,
        "overlap": str(row.overlap),
        "catch_up": length_text(row.catch_up),
        "jitter": length_text(row.jitter),
        "paused": row.is_paused,
    }


def _call(durable: Durable, text: str) -> tuple[str, str]:
    """Return the arguments as JSON; those that are none are left out, and stay as they are."""
    try:
        args, kwargs = durable.runtime.codec.decode(text)
        return json.dumps(args, ensure_ascii=False), json.dumps(kwargs, ensure_ascii=False)
    except (DurableError, TypeError, ValueError):
        return "", ""
