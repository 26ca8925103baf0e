"""An exception written down as facts, within bounds, without running more of its code than must be.

Type, message, arguments, attributes, traceback, the members of a group, and what caused it, each
the same way again. What is too long is cut, what cannot be encoded becomes text.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from ._errors import DurableError
from .core.flags import is_number

__all__ = ["DEEPEST_FAILURE", "MOST_FAILURES", "NOTE", "FailureWriter", "cut", "text_of"]

log: logging.Logger = logging.getLogger("celery_durable.payload")
#: Of one failure, at most so many exceptions are written down, so deeply inside each other.
MOST_FAILURES = 100
DEEPEST_FAILURE = 10
#: How the note begins that holds the traceback of an exception that came from elsewhere.
NOTE = "it was raised, as recorded there:\n"


class FailureWriter:
    """Writes down one exception and what belongs to it: texts of at most a given length, and not
    too many exceptions.
    """

    def __init__(self, encode: Callable[[Any], str], longest: int, most: int) -> None:
        self._encode = encode
        self._longest = longest
        self._left = most
        self._above: list[BaseException] = []

    def facts_of(self, error: BaseException, depth: int = 0) -> dict[str, Any]:
        """Return the facts of an exception and of what belongs to it."""
        cls = type(error)
        self._left -= 1
        self._above.append(error)
        facts: dict[str, Any] = {
            "module": str(cls.__module__),
            "type": str(cls.__qualname__),
            "message": cut(text_of(error), self._longest),
            "args": list(self._arguments(error)),
            "traceback": _cut_within(self._traceback(error), 2 * self._longest),
        }
        if attributes := self._attributes(error):
            facts["state"] = self._encode(attributes)
        if (asked := _retry_after(error)) is not None:
            facts["retry_after"] = self._encode(asked)
        if isinstance(error, BaseExceptionGroup):
            members = [
                self.facts_of(member, depth + 1)
                for member in error.exceptions
                if self._may_follow(member, depth)
            ]
            facts["members"] = members
            if (missing := len(error.exceptions) - len(members)) > 0:
                facts["missing"] = missing
        for name, linked in _links(error):
            if self._may_follow(linked, depth):
                facts[name] = self.facts_of(linked, depth + 1)
        self._above.pop()
        return facts

    def _may_follow(self, error: BaseException, depth: int) -> bool:
        return (
            self._left > 0
            and depth < DEEPEST_FAILURE
            and not any(error is each for each in self._above)
        )

    def _traceback(self, error: BaseException) -> str | None:
        """Return the traceback as text.

        Of an exception that came from elsewhere, only where it was raised first.
        """
        for note in getattr(error, "__notes__", None) or ():
            if isinstance(note, str) and note.startswith(NOTE):
                return note.removeprefix(NOTE)
        if error.__traceback__ is None:
            return None
        try:
            if all(len(text_of(each)) <= self._longest for each in _whole(error)):
                return "".join(traceback.format_exception(error, chain=len(self._above) == 1))
        except Exception:
            log.debug("a traceback could not be written whole", exc_info=True)
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{type(error).__qualname__}: {cut(text_of(error), self._longest)}\n"

    def _arguments(self, error: BaseException) -> Iterator[str]:
        left = 3 * self._longest
        for argument in _arguments(error):
            if left <= 0:
                return
            payload = self._safe(argument)
            left -= len(payload)
            yield payload

    def _safe(self, value: Any) -> str:
        if not isinstance(value, str):
            try:
                payload = self._encode(value)
            except Exception:
                payload = ""
            if 0 < len(payload) <= self._longest:
                return payload
            value = _repr(value)
        payload = self._encode(cut(value, self._longest))
        return (
            payload
            if len(payload) <= 2 * self._longest
            else self._encode(cut(value, self._longest // 8))
        )

    def _attributes(self, error: BaseException) -> dict[str, Any]:
        try:
            state = (
                error.facts
                if isinstance(error, DurableError)
                else dict(getattr(error, "__dict__", {}))
            )
        except Exception:
            return {}
        found: dict[str, Any] = {}
        left = 2 * self._longest
        for name, value in state.items():
            try:
                size = len(self._encode({name: value}))
            except Exception:  # noqa: S112
                continue
            if name != "__notes__" and isinstance(name, str) and size <= left:
                left -= size
                found[name] = value
        return found


def _retry_after(error: BaseException) -> Any:
    """Return when an exception asks to be tried again, as JSON knows it: a moment, or seconds."""
    try:
        asked = getattr(error, "retry_after", None)
    except Exception:  # a property's
        return None
    if isinstance(asked, timedelta):
        return asked.total_seconds()
    return asked if isinstance(asked, datetime) or is_number(asked) else None


def _whole(error: BaseException) -> list[BaseException]:
    """Return an exception with what a traceback shows beside it."""
    found: list[BaseException] = []
    rest = [error]
    while rest and len(found) < MOST_FAILURES:
        found.append(one := rest.pop())
        if isinstance(one, BaseExceptionGroup):
            rest += one.exceptions[:MOST_FAILURES]
        rest += [linked for _, linked in _links(one)]
    return found


def _links(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Give what an exception came from, as a traceback would show it."""
    if error.__cause__ is not None:
        yield "cause", error.__cause__
    elif error.__context__ is not None and not error.__suppress_context__:
        yield "context", error.__context__


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """Return what makes the exception again.

    An ``OSError`` keeps its file names beside its ``args``, a group its members.
    """
    if isinstance(error, OSError):
        reduced = OSError.__reduce__(error)
        return tuple(reduced[1])
    args = BaseException.args.__get__(error)  # type: ignore[attr-defined]
    return tuple(args[:1] if isinstance(error, BaseExceptionGroup) else args)


def cut(text: str, longest: int) -> str:
    """Return text of at most this length, with how long it was."""
    return (
        text
        if len(text) <= longest
        else f"{text[: max(longest - 30, longest // 2)]}... ({len(text)} characters)"
    )


def _cut_within(text: str | None, longest: int) -> str | None:
    """Cut the middle out: a traceback begins with where it came from, and ends with what it was."""
    if text is None or len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n... ({len(text)} characters)\n{text[-half:]}"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} whose repr() cannot be made>"


def text_of(error: BaseException) -> str:
    """Return the text of an exception, also of one that cannot say it."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be read>"
