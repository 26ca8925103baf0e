"""Fields of forms: JSON, tags and lengths of time, each with its errors at its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from django import forms
from django.utils.translation import gettext_lazy as _

from ....core.retry import LONGEST, in_microseconds
from ....core.tags import check_tags

__all__ = ["LINE", "JsonField", "LengthField", "LineField", "TagsField", "checked", "length_text"]

T = TypeVar("T")
LINE = {"class": "vTextField", "autocomplete": "off"}
_LINES = {"rows": 6, "class": "vLargeTextField", "spellcheck": "false"}
_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SECOND = 1_000_000


def checked(check: Callable[..., T], *given: Any) -> T:
    """Call a check, and let what it refuses be an error of the form.

    Raises:
        ValidationError: it raised a ``ValueError`` or a ``TypeError``; the text is the same.
    """
    try:
        return check(*given)
    except (ValueError, TypeError) as error:
        raise forms.ValidationError(str(error)) from error


class JsonField(forms.CharField):
    """A value as strict JSON; nothing is null.

    Args:
        of: what the value has to be: ``list`` or ``dict``; None takes any.
        **options: those of ``forms.CharField``.
    """

    def __init__(self, *, of: type | None = None, **options: Any) -> None:
        super().__init__(**{"widget": forms.Textarea(attrs=_LINES), **options})
        self._of = of

    def clean(self, value: Any) -> Any:
        """Return the value of the text."""
        text = super().clean(value)
        if not text:
            return None
        try:
            found = json.loads(text, parse_constant=_refuse)
            json.dumps(found, ensure_ascii=False).encode()
        except RecursionError:
            raise forms.ValidationError(_("This is nested too deeply."))
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                _("This is not JSON: %(problem)s in line %(line)s, column %(column)s."),
                params={"problem": error.msg, "line": error.lineno, "column": error.colno},
            )
        except ValueError as error:
            raise forms.ValidationError(
                _("This is not JSON: %(problem)s."), params={"problem": error}
            )
        if self._of is list and not isinstance(found, list):
            raise forms.ValidationError(_('A JSON list is needed, such as ["order-42", 3].'))
        if self._of is dict and not isinstance(found, dict):
            raise forms.ValidationError(_('A JSON object is needed, such as {"amount": 3}.'))
        return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")


class TagsField(forms.CharField):
    """Tags, one in a line: ``customer=7``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": forms.Textarea(attrs={**_LINES, "rows": 2}), **options})

    def clean(self, value: Any) -> dict[str, str]:
        """Return the tags by their names."""
        found: dict[str, str] = {}
        for line in filter(None, map(str.strip, super().clean(value).splitlines())):
            name, sign, text = line.partition("=")
            name = name.strip()
            if not sign or not name:
                raise forms.ValidationError(
                    _("“%(line)s” is not a tag: write customer=7"), params={"line": line[:60]}
                )
            if name in found:
                raise forms.ValidationError(
                    _("The tag “%(name)s” is there twice."), params={"name": name[:60]}
                )
            found[name] = text.strip()
        checked(check_tags, found)
        return found


class LineField(forms.CharField):
    """A line of text, which browsers do not fill in by themselves."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": forms.TextInput(attrs=LINE), **options})


class LengthField(LineField):
    """A length of time: seconds, or a number with a unit, such as ``90``, ``15m``, ``1.5h`` or
    ``7d``; nothing is None, anything else microseconds.

    Args:
        least: microseconds that it has to have.
        most: the same, that it may have.
        **options: those of ``forms.CharField``.
    """

    def __init__(self, *, least: int = 0, most: int = LONGEST, **options: Any) -> None:
        super().__init__(**options)
        self._least, self._most = least, most

    def clean(self, value: Any) -> int | None:
        """Return the length in microseconds."""
        text = super().clean(value).replace(" ", "")
        if not text:
            return None
        number, unit = (text[:-1], text[-1]) if text[-1] in _UNITS else (text, "s")
        try:
            seconds = float(number) * _UNITS[unit]
        except ValueError:
            raise forms.ValidationError(
                _("“%(text)s” is no length of time: write 90, 15m, 1.5h or 7d."),
                params={"text": text[:40]},
            )
        micros = checked(in_microseconds, seconds, str(self.label))
        if not self._least <= micros <= self._most:
            raise forms.ValidationError(
                _("It has to be from %(least)s to %(most)s."),
                params={"least": length_text(self._least), "most": length_text(self._most)},
            )
        return micros

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether another length was given, not only other words for it."""
        try:
            return bool(self.clean(initial) != self.clean(data))
        except forms.ValidationError:
            return True


def length_text(micros: int) -> str:
    """Return a length of time as ``LengthField`` reads it, in the largest unit that fits."""
    for unit, seconds in _UNITS.items():
        if micros and micros % (seconds * _SECOND) == 0:
            return f"{micros // (seconds * _SECOND)}{unit}"
    return f"{micros / _SECOND:.6f}".rstrip("0").rstrip(".") + "s"
