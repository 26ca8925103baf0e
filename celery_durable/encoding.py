"""Values to text and back, by kombu's serializers: what is encoded is decoded alike, and what is
not is refused at once.

A payload is the text that the serializer gave where that is JSON; anything else is kept as
``!content-type;encoding;base64``. What was written with a serializer is read with the same one, if
it is accepted: pickle only when the app accepts it explicitly.

JSON text alone does not tell everything. Kombu writes a date as ``{"__type__": .., "__value__":
..}``; a dict of the user's with just these two keys is therefore written as a type of its own. Keys
that JSON makes the same (``1`` and ``"1"``) are refused, and so is what is nested so deeply that
another process might not read it. Where the text shows no sign of it, it costs nothing.
"""

from __future__ import annotations

import base64
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from kombu.exceptions import SerializerNotInstalled
from kombu.serialization import dumps, loads, registry
from kombu.utils.json import dumps as json_dumps
from kombu.utils.json import loads as json_loads
from kombu.utils.json import register_type

from ._errors import PayloadError
from .conversion import Converters, Encoder
from .core.misspelt import which_is_meant

__all__ = ["DEEPEST", "Foreign", "ValueCodec", "missing_serializer", "unmistakable"]

log: logging.Logger = logging.getLogger("celery_durable.payload")

#: How many lists and dicts may be inside each other: below what a process can read, whatever its
#: stack holds already, and enough for a canvas of a hundred steps inside each other.
DEEPEST = 600
_WRAPPED = 20
_JSON = "application/json"
_PICKLE = "application/x-python-serialize"
_TYPED = frozenset({"__type__", "__value__"})
#: The names of serializers by which something was written here.
_written: set[str] = {"json"}
# a key that a typed value has, or that may have been a number, a truth value or None
_ODD_KEY = re.compile(r'"(?:__type__|-?[0-9][^"]*|true|false|null|NaN|-?Infinity)": ')


def missing_serializer(name: str) -> str | None:
    """Return why this process cannot write anything by a serializer, and what to do; None if it
    can.
    """
    if name in _written:
        return None
    try:
        dumps([[], {}], serializer=name)
    except SerializerNotInstalled as error:
        known = sorted(each for each in registry._encoders if not each.startswith("durable"))
        question = which_is_meant(name, known)
        return (
            f"this process has no serializer {name!r} ({error}); it has {', '.join(known)}."
            f" {question or 'Install its package, or register it with kombu where the app is made'}"
        )
    except Exception:  # there is one, and what it takes is its own business
        return None
    _written.add(name)
    return None


class Foreign:
    """A dict of the user's that looks like one of kombu's typed values, as kombu's JSON
    writes it.
    """

    MARK = "celery_durable.dict"

    def __init__(self, items: dict[Any, Any]) -> None:
        self.items = items

    def __repr__(self) -> str:
        return repr(self.items)

    def __reduce__(self) -> Any:
        return dict, (self.items,)


def _pairs_of(foreign: Foreign) -> list[Any]:
    return [list(item) for item in foreign.items.items()]


_decoder: Any = dict  # what was written as one comes back as the dict that it was
register_type(Foreign, Foreign.MARK, _pairs_of, _decoder)


class ValueCodec:
    """Encodes with one serializer, decodes what is accepted.

    Args:
        serializer: a name that kombu knows, such as ``json``.
        accept: content types or serializer names that may be read beside the serializer's own and
            JSON; pickle only if it is the serializer, however it is named.
        warning: the length above which an encoded value is logged.
        limit: the length above which it is refused.
        converters: of the application's own types.
    """

    def __init__(
        self,
        serializer: str = "json",
        accept: Iterable[str] = (),
        *,
        warning: int | None = None,
        limit: int | None = None,
        converters: Converters | None = None,
    ) -> None:
        self.serializer = serializer
        #: Of the application's own types.
        self.converters: Converters = Converters() if converters is None else converters
        self._warning = warning
        self._limit = limit
        names = {serializer, *accept}
        self._accept = {_JSON} | {registry.name_to_type.get(name, name) for name in names}
        if serializer != "pickle":
            self._accept.discard(_PICKLE)

    def encode(self, value: Any, *, is_checked: bool = False) -> str:
        """Encode a value.

        Args:
            value: the value.
            is_checked: it is made of values that were encoded before: what is put around them
                counts for no limit.

        Raises:
            PayloadError: the serializer cannot encode it so that it can be decoded; the message
                says which part. Or it is too large, or nested too deeply.
        """
        if is_checked:
            return self._encode(value, DEEPEST + _WRAPPED)
        return self._bounded(value, self._encode(value))

    def _bounded(self, value: Any, payload: str) -> str:
        if self._limit is not None and len(payload) > self._limit:
            raise PayloadError(
                f"a value of type {type(value).__name__} takes {len(payload)} bytes encoded, more"
                f" than durable_payload_limit ({self._limit}); keep large data elsewhere and pass a"
                " reference",
                size=len(payload),
                limit=self._limit,
            )
        if self._warning is not None and len(payload) > self._warning:
            log.warning(
                "a payload of %d bytes is kept in history; a reference would be better",
                len(payload),
            )
        return payload

    def _encode(self, value: Any, deepest: int = DEEPEST) -> str:
        return self._encode_telling(value, deepest)[0]

    def _encode_telling(self, value: Any, deepest: int = DEEPEST) -> tuple[str, bool]:
        """Encode a value, and tell whether something of it does not come back by itself."""
        try:
            return (
                self._as_json(value, deepest)
                if self.serializer == "json"
                else self._as_other(value)
            )
        except PayloadError:
            raise
        except Exception as error:
            where, culprit = "a value (nested too deeply, or holding itself)", value
            if not _is_endless(error):
                with suppress(RecursionError):
                    where, culprit = _culprit(value, self._encode_part)
            if inspect.iscoroutine(culprit):
                culprit.close()
                raise PayloadError(
                    f"{where} that is a coroutine: {culprit.__qualname__}() is an `async def`"
                    " function, and it was not awaited. Celery runs plain functions: in a task call"
                    " asyncio.run(...) on it; in an orchestrator await it"
                ) from None
            raise PayloadError(
                f"{where} of type {type(culprit).__module__}.{type(culprit).__qualname__}, which"
                f" the serializer {self.serializer!r} cannot encode: {error}"
                + (_ADVICE if self.serializer == "json" else "")
            ) from error

    def _as_json(self, value: Any, deepest: int) -> tuple[str, bool]:
        encoder = Encoder(self.converters)
        if self.converters.walks:
            value = self.converters.walked(value)
        try:
            text = encoder.encode(value)
        except TypeError:  # of a key, or of a value that nothing knows
            value, encoder.has_converted = encoder.plain(value), True
            text = encoder.encode(value)
        if _ODD_KEY.search(text) is None and text.count("[") + text.count("{") <= deepest:
            return text, encoder.has_converted
        value = encoder.plain(value) if encoder.has_converted else value
        found = unmistakable(value, deepest)
        if found is not value:
            text = encoder.encode(found)
        if '"__type__": ' in text:
            self._check(text)
        return text, encoder.has_converted

    def _encode_part(self, value: Any) -> object:
        """Encode a part of a value as the whole is, unchecked: to find what is refused."""
        if self.serializer == "json":
            return Encoder(self.converters).encode(value)
        return self._dumped(value)

    def _dumped(self, value: Any) -> tuple[Any, bool]:
        """Return what a serializer of another name makes of a value, and whether of a plain one."""
        try:
            return dumps(value, serializer=self.serializer), False
        except Exception as error:
            try:
                plain = Encoder(self.converters).plain(value)
                return dumps(plain, serializer=self.serializer), True
            except Exception:
                raise error from None

    def _as_other(self, value: Any) -> tuple[str, bool]:
        """Encode by a serializer of another name; what it refuses, as plain values."""
        (content_type, encoding, data), has_converted = self._dumped(value)
        if content_type == _JSON:
            payload = data if isinstance(data, str) else data.decode()
        else:
            raw = data.encode() if isinstance(data, str) else data
            payload = f"!{content_type};{encoding};{base64.b64encode(raw).decode()}"
        self._check(payload)
        return payload, has_converted

    def _check(self, payload: str) -> None:
        try:
            self._decode(payload)
        except Exception as error:
            raise PayloadError(
                f"a value that the serializer {self.serializer!r} encodes and cannot decode again: "
                f"{type(error).__name__}: {error}"
            ) from error

    def decode(self, payload: str) -> Any:
        """Decode a payload.

        Raises:
            PayloadError: it is damaged, or of a content type that is not accepted.
        """
        try:
            return self._decode(payload)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(
                f"a stored payload cannot be decoded: {type(error).__name__}: {error}"
            ) from error

    def _decode(self, payload: str) -> Any:
        if not payload.startswith("!"):
            return json_loads(payload)
        content_type, encoding, data = payload[1:].split(";", 2)
        if content_type not in self._accept:
            raise PayloadError(
                f"a stored payload has the content type {content_type!r}, which is not accepted "
                "(durable_serializer and accept_content decide)"
            )
        return loads(base64.b64decode(data), content_type, encoding, accept=self._accept)


def unmistakable(value: Any, deepest: int = DEEPEST, where: str = "a value") -> Any:
    """Return a value of which kombu's JSON text tells all.

    It is the same one if nothing in it could be mistaken.

    Raises:
        PayloadError: two keys of a dict would be one, or more than ``deepest`` lists and dicts are
            inside each other.
    """
    if not isinstance(value, (dict, list, tuple)):
        return value
    if deepest <= 0:
        raise PayloadError(
            "a value that is nested too deeply; keep it elsewhere, or pass it as text"
        )
    if isinstance(value, dict):
        _refuse_twins(value, where)
    found: dict[Any, Any] = {}
    is_same = True
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        found[key] = part
        if isinstance(part, (dict, list, tuple)):
            found[key] = unmistakable(part, deepest - 1, f"{where}[{key!r:.80}]")
            is_same = is_same and found[key] is part
    if isinstance(value, dict) and found.keys() == _TYPED:
        return Foreign(found)
    if is_same:
        return value
    return found if isinstance(value, dict) else list(found.values())


def _refuse_twins(value: dict[Any, Any], where: str) -> None:
    """Refuse keys that JSON makes the same."""
    if all(isinstance(key, str) for key in value):
        return
    known: dict[str, Any] = {}
    for key, text in zip(value, _key_texts(value), strict=True):
        if text in known:
            raise PayloadError(
                f"{where}, whose keys {known[text]!r} and {key!r} are the same in JSON, where keys"
                " are strings: one would be lost" + _ADVICE
            )
        known[text] = key


def _key_texts(keys: Iterable[Any]) -> Iterator[str]:
    for key in keys:
        yield key if isinstance(key, str) else json_dumps({key: 0})[2:-5]


def _is_endless(error: BaseException) -> bool:
    """Tell whether a serializer has refused a value for its depth: no part of it is to blame."""
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(each, RecursionError) or "Circular" in str(each) for each in causes)


def _culprit(
    value: Any, encode: Callable[[Any], object], where: str = "a value"
) -> tuple[str, Any]:
    """Find the innermost part that cannot be encoded, and how to reach it."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"{where}[{key!r:.80}]", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"{where}[{number}]", part) for number, part in enumerate(value)]
    for path, part in parts:
        try:
            encode(part)
        except Exception:
            return _culprit(part, encode, path)
    return where, value


_ADVICE = (
    "; pass what JSON knows (numbers, text, lists, dicts, dates, Decimal, UUID, bytes), or set"
    " durable_serializer='pickle' where all who write to the store and the broker are trusted"
)
