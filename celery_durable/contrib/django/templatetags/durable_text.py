"""How names and ids are written on the admin's pages."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.safestring import SafeString, mark_safe

from ....inspection import drawing_words

__all__ = ["breakable"]

register: template.Library = template.Library()


@register.filter
def breakable(value: Any) -> SafeString:
    """Return text as markup that is broken after separators of names, and not inside their words.

    Example:
        >>> breakable("shop.fulfil")
        'shop.<wbr>fulfil'
    """
    text = "" if value is None else drawing_words.breakable(value)
    return mark_safe(text)  # noqa: S308  it is escaped
