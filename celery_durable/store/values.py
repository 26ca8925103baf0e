"""How values are kept: payloads as bytes, tags and facts as text, text for people cleaned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from .._errors import ConfigurationError
from ..core.status import RuntimeStatus

__all__ = [
    "ELSEWHERE",
    "ENCODED",
    "Elsewhere",
    "blob",
    "facts_of",
    "lacks",
    "numbers",
    "portions",
    "readable",
    "reference",
    "status_in",
    "tags_of",
    "tags_text",
    "text_of",
]

T = TypeVar("T")
#: How the bytes in a column begin that a codec has encoded, or that refer to the payload store: no
#: text begins so.
ENCODED, ELSEWHERE = b"\x01encoded:", b"\x02elsewhere:"
_MARKS = (ENCODED, ELSEWHERE)
_STATUSES = {str(status): status for status in RuntimeStatus}


class Elsewhere(bytes):
    """What a column has in the place of a payload that lies in the payload store."""

    size: int  #: Of the payload.
    fetch: Callable[[], bytes]  #: Returns the payload.

    def __new__(cls, data: bytes, size: int, fetch: Callable[[], bytes]) -> Elsewhere:
        """Return the column's value, with what it stands for."""
        made = super().__new__(cls, data)
        made.size, made.fetch = size, fetch
        return made


def reference(size: int, key: str) -> bytes:
    """Return what a column has in the place of a payload of some bytes that lies under a key."""
    return ELSEWHERE + f"{size}:{key}".encode()


def status_in(text: str) -> RuntimeStatus:
    """Return a stored status.

    Raises:
        ValueError: there is no such status.
    """
    return _STATUSES.get(text) or RuntimeStatus(text)


def blob(text: str | None) -> bytes | None:
    """Return a payload as the store keeps it."""
    return None if text is None else text.encode()


def text_of(data: Any) -> str | None:
    """Return a stored payload as text; damage is left to the decoder to report.

    Raises:
        ConfigurationError: it was encoded or put elsewhere by settings that this process lacks.
    """
    if data is None:
        return None
    found = bytes(data)
    if isinstance(data, Elsewhere):
        return data.fetch().decode("utf-8", "replace")
    if found.startswith(_MARKS):
        raise lacks("durable_codec" if found.startswith(ENCODED) else "durable_payload_store")
    return found.decode("utf-8", "replace")


def lacks(setting: str) -> ConfigurationError:
    """Return the error of a process that lacks a setting by which a payload was stored; another one
    may have it.
    """
    return ConfigurationError(
        f"a payload in the store needs {setting}, which is not set in this process: give all"
        " workers and clients the same settings",
        setting=setting,
        needed=setting,
    )


def readable(text: str | None) -> str | None:
    """Return text for people as any database takes it: no NUL, no half characters, not too long."""
    if text is None:
        return None
    return (
        text[:10_000]
        .replace("\x00", "\N{REPLACEMENT CHARACTER}")
        .encode("utf-8", "replace")
        .decode()
    )


def tags_text(tags: dict[str, str] | None) -> str | None:
    """Return tags as text in which each pair can be found by itself."""
    if not tags:
        return None
    pairs = (json.dumps([name, value], ensure_ascii=True) for name, value in sorted(tags.items()))
    return "\n" + "\n".join(pairs) + "\n"


def tags_of(text: str) -> dict[str, str]:
    """Decode tags; a damaged one is left out, so that its instance can still be found."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        try:
            match json.loads(line):
                case [str(key), str(value)]:
                    found[key] = value
        except (ValueError, RecursionError):
            continue
    return found


def facts_of(text: str) -> dict[str, Any] | str:
    """Decode facts; damage is left to the engine to report."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def numbers(rows: Sequence[int]) -> str:
    """Return numbers as an IN of a statement takes them."""
    return ", ".join(str(int(number)) for number in rows)


def full_portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into few portions of few lengths, the last one filled up by its last: for
    statements to which it is the same whether a row is named once or twice.
    """
    for start in range(0, len(things), 100):
        part = [*things[start : start + 100]]
        size = next(size for size in (1, 10, 100) if len(part) <= size)
        yield part + part[-1:] * (size - len(part))


def portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence so that few lengths come up, and few statements are compiled."""
    rest = things
    while rest:
        size = next(size for size in (100, 10, 1) if len(rest) >= size)
        yield rest[:size]
        rest = rest[size:]
