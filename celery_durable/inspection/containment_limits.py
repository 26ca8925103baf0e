"""Limits of numbers, texts, lists and objects: whether one form keeps those of another."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from .containment_forms import Form, is_of, type_of

__all__ = ["limit_reasons", "literal_reasons"]

_LEAST = {"string": "minLength", "array": "minItems", "object": "minProperties"}
_MOST = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}
#: What has to be the same on both sides.
_EQUAL = ("pattern", "format", "contentEncoding")
#: With the sign by which a greater limit is a tighter one.
_BOUNDS = ((("minimum", "exclusiveMinimum"), 1), (("maximum", "exclusiveMaximum"), -1))
Found = Iterator[tuple[str, str, bool]]


def limit_reasons(form: Form, other: Form) -> Found:
    """Give the limits of ``other`` that values of ``form`` need not keep: what is given, what is
    taken, and whether that cannot be decided.

    Both are of one type.
    """
    if other.type in ("number", "integer"):
        yield from _of_numbers(form, other)
    else:
        yield from _of_sizes(form, other)
    for name in _EQUAL:
        wanted, has = other.keywords.get(name), form.keywords.get(name)
        if wanted is not None and has != wanted:
            if has is not None and name == "pattern":
                yield f"the pattern {has} and {wanted}", "", True
            else:
                yield f"{name} {has or 'of any kind'}", f"{name} {wanted}", False
    if other.keywords.get("uniqueItems") and not form.keywords.get("uniqueItems"):
        yield "items that may repeat", "items that do not repeat", False


def _of_numbers(form: Form, other: Form) -> Found:
    for names, sign in (
        (("minimum", "exclusiveMinimum"), 1),
        (("maximum", "exclusiveMaximum"), -1),
    ):
        wanted, has = _bound(other.keywords, names, sign), _bound(form.keywords, names, sign)
        if wanted is not None and (has is None or has < wanted):
            yield _bound_text(form.keywords, names), _bound_text(other.keywords, names), False
    step = other.keywords.get("multipleOf")
    if step is not None:
        own = form.keywords.get("multipleOf", 1 if form.type == "integer" else None)
        if own is None or _exact(own) % _exact(step):
            yield f"multipleOf {own or 'anything'}", f"multipleOf {step}", False


def _bound(
    keywords: Mapping[str, Any], names: tuple[str, str], sign: int
) -> tuple[Fraction, bool] | None:
    """Return the tightest limit, so that a greater one is tighter, and whether it is left out."""
    found = [
        (sign * _exact(keywords[name]), is_exclusive)
        for name, is_exclusive in zip(names, (False, True), strict=True)
        if name in keywords
    ]
    return max(found) if found else None


def _bound_text(keywords: Mapping[str, Any], names: tuple[str, str]) -> str:
    texts = [f"{name} {keywords[name]}" for name in names if name in keywords]
    return ", ".join(texts) or f"no {names[0]}"


def _exact(number: Any) -> Fraction:
    return Fraction(str(number))


def _of_sizes(form: Form, other: Form) -> Found:
    type_ = str(form.type)
    least, most = other.keywords.get(_LEAST[type_], 0), other.keywords.get(_MOST[type_])
    least_given, most_given = _sizes(form)
    if least_given < least:
        yield f"{_LEAST[type_]} {least_given}", f"{_LEAST[type_]} {least}", False
    if most is not None and (most_given is None or most_given > most):
        given = "no limit" if most_given is None else most_given
        yield f"{_MOST[type_]} {given}", f"{_MOST[type_]} {most}", False


def _sizes(form: Form) -> tuple[int, int | None]:
    """Return how small and how large values of a form may be."""
    keywords, type_ = form.keywords, str(form.type)
    least, most = keywords.get(_LEAST[type_], 0), keywords.get(_MOST[type_])
    if type_ == "object":
        least = max(least, len(set(keywords.get("required", []))))
        is_closed = (
            "properties" in keywords and keywords.get("additionalProperties", False) is False
        )
        declared = len(keywords["properties"]) if is_closed else None
        most = min((each for each in (most, declared) if each is not None), default=None)
    elif type_ == "array" and keywords.get("items") is False:
        prefix = len(keywords.get("prefixItems", []))
        most = prefix if most is None else min(most, prefix)
    return least, most


def literal_reasons(value: Any, other: Form) -> str | None:
    """Tell whether a form takes a value: None if so, else "refused" or "undecided"."""
    if other.is_anything:
        return None
    if other.literals is not None:
        return None if any(_equal(value, each) for each in other.literals) else "refused"
    if not is_of(value, [str(other.type)]):
        return "refused"
    if isinstance(value, (dict, list)):
        return "undecided"
    check: Callable[[Any, Mapping[str, Any]], str | None] = (
        _text_refused if isinstance(value, str) else _number_refused
    )
    return check(value, other.keywords)


def _equal(one: Any, other: Any) -> bool:
    kinds = {type_of(one), type_of(other)}
    if isinstance(one, (dict, list)):
        return repr(one) == repr(other)
    return bool(one == other) and (len(kinds) == 1 or kinds == {"integer", "number"})


def _text_refused(value: str, keywords: Mapping[str, Any]) -> str | None:
    if "format" in keywords or "contentEncoding" in keywords or "pattern" in keywords:
        return "undecided"
    least, most = keywords.get("minLength", 0), keywords.get("maxLength", math.inf)
    return None if least <= len(value) <= most else "refused"


def _number_refused(value: Any, keywords: Mapping[str, Any]) -> str | None:
    number = _exact(value)
    given = ((_KEEPS[name], keywords[name]) for name in _KEEPS if name in keywords)
    return None if all(keeps(number, _exact(limit)) for keeps, limit in given) else "refused"


_KEEPS: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "multipleOf": lambda number, step: number % step == 0,
}
