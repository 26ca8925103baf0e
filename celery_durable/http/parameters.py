"""What a query or a header may say: how each kind of value is read, and how the OpenAPI document
describes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from ..azure import OrchestrationRuntimeStatus
from ..core.names import LONGEST_NAME
from ..core.status import RuntimeStatus
from .messages import Problem

__all__ = [
    "BOOLEAN",
    "COUNT",
    "MOMENT",
    "NUMBER",
    "OPERATION",
    "SECONDS",
    "STATUSES",
    "TAGS",
    "TEXT",
    "Kind",
    "Parameter",
    "read_query",
]

#: What front ends of the Functions host send along, or browsers' libraries against caches, and
#: means nothing here.
IGNORED = frozenset({"code", "taskHub", "connection", "systemKey", "_"})
_MOST_PARAMETERS = 100
_MOST_SECONDS = 1e300


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        read: text to value; raises ``ValueError`` with what is expected.
        schema: for the OpenAPI document.
        joins: whether the parameter may be given several times, which is one list.
    """

    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    joins: bool = False


@dataclass(frozen=True)
class Parameter:
    """One parameter of a route."""

    name: str
    kind: Kind
    about: str
    default: Any = None
    is_required: bool = False
    place: str = "query"


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError("a whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MOST_SECONDS:
        raise ValueError("a number of seconds, 0 or more")
    return value


def _moment(text: str) -> datetime:
    for candidate in (text, text.replace(" ", "+")):  # a "+" that was not encoded came as a blank
        try:
            found = datetime.fromisoformat(candidate)
            return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(
                UTC
            )
        except (ValueError, OverflowError):
            continue
    raise ValueError("a time as ISO 8601 writes it, such as 2026-01-31T12:00:00Z")


_WORDS = {word.lower(): word for word in OrchestrationRuntimeStatus}


def _statuses(text: str) -> tuple[RuntimeStatus, ...]:
    """Read words such as ``Running,Failed``.

    Nothing here is ever ContinuedAsNew, which then matches nothing.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    if any(word not in _WORDS for word in words):
        raise ValueError(
            f"some of {', '.join(OrchestrationRuntimeStatus)}, with commas between them"
        )
    known = {str(status).lower(): status for status in RuntimeStatus}
    return tuple(known[word] for word in dict.fromkeys(words) if word in known)


def _operation(text: str) -> str:
    if text.startswith("_") or not text.isidentifier() or len(text) > LONGEST_NAME:
        raise ValueError("the name of an operation")
    return text


def _tags(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("pairs such as customer=7, with commas between them")
    return {name: value for name, _, value in pairs}


BOOLEAN = Kind(_boolean, {"type": "boolean"})
COUNT = Kind(_count, {"type": "integer", "minimum": 1, "maximum": 10**18 - 1})
NUMBER = Kind(_number, {"type": "integer"})
SECONDS = Kind(_seconds, {"type": "number", "minimum": 0, "maximum": _MOST_SECONDS})
MOMENT = Kind(_moment, {"type": "string", "format": "date-time"})
TAGS = Kind(
    _tags, {"type": "array", "items": {"type": "string", "pattern": "^[^=,]+=[^,]*$"}}, joins=True
)
TEXT = Kind(str, {"type": "string"})
OPERATION = Kind(
    _operation, {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$", "maxLength": LONGEST_NAME}
)
STATUSES = Kind(
    _statuses, {"type": "array", "items": {"enum": list(OrchestrationRuntimeStatus)}}, joins=True
)


def read_query(query: str, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values of a query by name, with the defaults of what is missing.

    A parameter that there is not is refused: a filter that is misspelt would choose too much.

    Raises:
        Problem: 400, with the field.
    """
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except ValueError as error:
        raise Problem(400, f"the query cannot be read: {error}") from None
    known = {parameter.name: parameter for parameter in parameters if parameter.place == "query"}
    given: dict[str, str] = {}
    for name, text in pairs:
        if name not in known:
            if name not in IGNORED:
                raise Problem(
                    400,
                    f"there is no parameter {name!r} here; known are {_list(known)}",
                    field=name,
                )
        elif name not in given:
            given[name] = text
        elif known[name].kind.joins:
            given[name] += f",{text}"
        else:
            raise Problem(400, f"{name} is given more than once", field=name)
    return {name: read(parameter, given.get(name)) for name, parameter in known.items()}


def read(parameter: Parameter, text: str | None) -> Any:
    """Return the value of one parameter; one that is empty is as one that is missing.

    Raises:
        Problem: 400, with the field.
    """
    if not text:
        if parameter.is_required:
            raise Problem(400, f"{parameter.name} is required", field=parameter.name)
        return parameter.default
    try:
        return parameter.kind.read(text)
    except ValueError as error:
        raise Problem(
            400, f"{parameter.name} must be {error}, not {text[:100]!r}", field=parameter.name
        ) from None


def _list(known: Iterable[str]) -> str:
    return ", ".join(known) or "none"
