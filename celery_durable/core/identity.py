"""What tells a function that is run inline from another one of the same name: what it is given, and
a lambda's code.

A rewind asks: under a number that history knows, the code may run another function by then. Lines
do not count, as code moves; nor does the code of functions with a name of their own, which is
theirs.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from types import CodeType
from typing import Any
from uuid import UUID

__all__ = ["identity_of", "is_same"]

_FIXED = (str, bytes, int, float, complex, type(None), date, time, timedelta, Decimal, UUID)
_PYTHON = f"{sys.implementation.cache_tag}"


def identity_of(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    encode: Callable[[Any], str],
) -> str:
    """Return the identity of a function with its arguments: ``inputs``, or ``inputs:python:code``
    for a lambda.

    Args:
        fn: the function, a method, or a ``functools.partial``.
        args: what it is called with.
        kwargs: the same, by name.
        encode: gives a value as text; what it refuses counts by its type alone.
    """
    given: list[Any] = [args, sorted(kwargs.items())]
    while isinstance(fn, functools.partial):
        given += [fn.args, sorted(fn.keywords.items())]
        fn = fn.func
    plain: Any = getattr(fn, "__func__", fn)
    name = getattr(plain, "__qualname__", type(plain).__name__)
    parts = [name, *(_text(value, encode) for values in given for value in values)]
    parts += [_text(value, encode) for value in _captured(plain)]
    identity = _digest("\0".join(parts))
    code = getattr(plain, "__code__", None)
    if name.endswith("<lambda>") and code is not None:
        identity += f":{_PYTHON}:{_digest(_shape(code))}"
    return identity


def is_same(one: str | None, other: str | None) -> bool:
    """Tell whether two identities are of one function, as far as both are known.

    Other Pythons have other codes.
    """
    if not one or not other:
        return True
    (inputs, *code), (inputs_of_other, *code_of_other) = one.split(":"), other.split(":")
    is_comparable = code[:1] == code_of_other[:1]
    return inputs == inputs_of_other and (not is_comparable or code == code_of_other)


def _captured(fn: Any) -> list[Any]:
    """Return the values that a function brings with it, as far as no other code can change them."""
    values = [
        *(getattr(fn, "__defaults__", None) or ()),
        *(getattr(fn, "__kwdefaults__", None) or {}).values(),
    ]
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not bound yet
            values.append(None)
    return [value if _is_fixed(value) else None for value in values]


def _is_fixed(value: Any) -> bool:
    return all(map(_is_fixed, value)) if type(value) is tuple else isinstance(value, _FIXED)


def _text(value: Any, encode: Callable[[Any], str]) -> str:
    try:
        return encode(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _shape(constant: Any) -> str:
    """Return a constant as text that every process writes alike.

    Of code, what it does and not where it stands.
    """
    if isinstance(constant, CodeType):
        names = (
            constant.co_names,
            constant.co_varnames,
            constant.co_freevars,
            constant.co_cellvars,
        )
        return f"<{constant.co_code.hex()} {names!r} {_shape(constant.co_consts)}>"
    if isinstance(constant, tuple):
        return f"({','.join(map(_shape, constant))})"
    if isinstance(constant, frozenset):
        return f"{{{','.join(sorted(map(_shape, constant)))}}}"
    return repr(constant)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
