"""Values to text and back, by kombu's serializers; exceptions to text and back, without running their code.

A payload is the text that the serializer gave where that is JSON; anything else is kept as
``!content-type;encoding;base64``. What was written with a serializer is read with the same one, if it is accepted:
pickle only when the app accepts it explicitly.
"""

from __future__ import annotations

import base64
import builtins
import logging
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from kombu.serialization import dumps, loads, registry
from kombu.utils.json import dumps as json_dumps
from kombu.utils.json import loads as json_loads

from .errors import ActivityError, DurableError, PayloadError

__all__ = ["PayloadCodec", "check_json", "encodable"]

log = logging.getLogger("celery_durable.payload")

_JSON = "application/json"
_PICKLE = "application/x-python-serialize"
_NOTE = "where it was raised:\n"


class PayloadCodec:
    """Encodes with one serializer, decodes what is accepted.

    Args:
        serializer: a name that kombu knows, such as ``json``.
        accept: content types or serializer names that may be read beside the serializer's own and JSON; pickle only if
            it is the serializer, however it is named.
        exception_modules: top-level packages whose exceptions may be rebuilt, asked for at each use.
        warning: the length above which an encoded value is logged.
        limit: the length above which it is refused.
    """

    def __init__(
        self,
        serializer: str = "json",
        accept: Iterable[str] = (),
        exception_modules: Callable[[], Iterable[str]] = tuple,
        *,
        warning: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.serializer = serializer
        self._exception_modules = exception_modules
        self._warning = warning
        self._limit = limit
        names = {serializer, *accept}
        self._accept = {_JSON} | {registry.name_to_type.get(name, name) for name in names}
        if serializer != "pickle":
            self._accept.discard(_PICKLE)

    def encode(self, value: Any) -> str:
        """Encode a value.

        Raises:
            PayloadError: the serializer cannot encode it; the message says which part. Or it is too large.
        """
        payload = self._encode(value)
        if self._limit is not None and len(payload) > self._limit:
            raise PayloadError(
                f"a value of type {type(value).__name__} takes {len(payload)} bytes encoded, more than durable_payload_limit "
                f"({self._limit}); keep large data elsewhere and pass a reference",
                size=len(payload), limit=self._limit,
            )  # fmt: skip
        if self._warning is not None and len(payload) > self._warning:
            log.warning("a payload of %d bytes is kept in history; a reference would be better", len(payload))
        return payload

    def _encode(self, value: Any) -> str:
        try:
            if self.serializer == "json":
                return str(json_dumps(value))
            content_type, encoding, data = dumps(value, serializer=self.serializer)
        except Exception as error:
            try:
                where, culprit = _culprit(value, self.serializer)
            except RecursionError:
                where, culprit = "a value (nested too deeply, or holding itself)", value
            raise PayloadError(
                f"{where} of type {type(culprit).__module__}.{type(culprit).__qualname__}, which the serializer "
                f"{self.serializer!r} cannot encode: {error}"
            ) from error
        if content_type == _JSON:
            return data if isinstance(data, str) else data.decode()
        raw = data.encode() if isinstance(data, str) else data
        return f"!{content_type};{encoding};{base64.b64encode(raw).decode()}"

    def decode(self, payload: str) -> Any:
        """Decode a payload.

        Raises:
            PayloadError: it is damaged, or of a content type that is not accepted.
        """
        try:
            if not payload.startswith("!"):
                return json_loads(payload)
            content_type, encoding, data = payload[1:].split(";", 2)
            if content_type not in self._accept:
                raise PayloadError(
                    f"a stored payload has the content type {content_type!r}, which is not accepted "
                    "(durable_serializer and accept_content decide)"
                )
            return loads(base64.b64decode(data), content_type, encoding, accept=self._accept)
        except PayloadError:
            raise
        except Exception as error:
            raise PayloadError(f"a stored payload cannot be decoded: {type(error).__name__}: {error}") from error

    # -- exceptions -----------------------------------------------------------------------------------

    def encode_failure(self, error: BaseException) -> str:
        """Encode an exception with its type, arguments, attributes and traceback; never raises."""
        cls = type(error)
        facts: dict[str, Any] = {
            "module": cls.__module__,
            "type": cls.__qualname__,
            "message": _text(error),
            "args": [self._safe(arg) for arg in _arguments(error)],
            "traceback": _traceback(error),
        }
        state = error.facts if isinstance(error, DurableError) else getattr(error, "__dict__", {})
        attributes = {name: value for name, value in state.items() if name != "__notes__" and self._can_encode(value)}
        if attributes:
            facts["state"] = self._encode(attributes)
        return str(json_dumps(facts))

    def decode_failure(self, payload: str, *, may_rebuild: bool = True) -> tuple[BaseException, bool]:
        """Return the exception of a failure, and whether it is its original type.

        Only classes of builtins, of modules imported already and of the allowed packages are rebuilt, and
        without calling ``__init__``; anything else becomes an ``ActivityError``.

        Raises:
            PayloadError: the payload is no failure.
        """
        facts = self.decode(payload)
        if not isinstance(facts, dict) or "type" not in facts:
            raise PayloadError("a stored failure is damaged: it names no exception type")
        if may_rebuild and (error := self._rebuilt(facts)) is not None:
            return error, True
        name, message, trace = (
            f"{facts.get('module')}.{facts['type']}",
            str(facts.get("message")),
            facts.get("traceback"),
        )
        trace = trace if isinstance(trace, str) else None
        return ActivityError(f"{name}: {message}", type=name, message=message, traceback=trace), False

    def _rebuilt(self, facts: dict[str, Any]) -> BaseException | None:
        cls = self._exception_class(str(facts.get("module")), str(facts["type"]))
        if cls is None:
            return None
        try:
            args = tuple(self.decode(arg) for arg in facts.get("args") or ())
            state = self.decode(facts["state"]) if facts.get("state") else {}
            if not isinstance(state, dict):
                return None
            state.pop("__notes__", None)
            if cls.__module__ == "builtins":  # these keep what they know in their own __init__
                error: BaseException = cls(*args)
            else:
                error = cls.__new__(cls, *args)
                error.args = args
            if issubclass(cls, DurableError):
                error.__dict__["facts"] = state
            else:
                error.__dict__.update(state)
        except Exception:
            return None
        if isinstance(trace := facts.get("traceback"), str) and trace:
            error.add_note("it was raised, as recorded there:\n" + trace)
        return error

    def _exception_class(self, module: str, name: str) -> type[BaseException] | None:
        if module == "builtins":
            found: Any = getattr(builtins, name, None)
        else:
            if module not in sys.modules and module.partition(".")[0] in set(self._exception_modules()):
                if module.rpartition(".")[2] == "__main__":
                    return None
                try:
                    __import__(module)
                except (Exception, SystemExit):
                    return None
            found = sys.modules.get(module)
            try:
                for part in name.split("."):
                    found = getattr(found, part, None)
            except Exception:  # a module or class may answer by code
                return None
        if not (isinstance(found, type) and issubclass(found, Exception)):
            return None
        return found if (found.__module__, found.__qualname__) == (module, name) else None

    def _can_encode(self, value: Any) -> bool:
        try:
            self._encode(value)
        except PayloadError:
            return False
        return True

    def _safe(self, value: Any) -> str:
        try:
            return self._encode(value)
        except PayloadError:
            return self._encode(_repr(value))


def encodable(text: str) -> str:
    """Return text as UTF-8 holds it: half a character, as of a file name, becomes its number, as JSON writes it."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_json(text: str) -> None:
    """Refuse JSON that an orchestrator could not read: what it is read with knows values of its own, such as dates.

    Raises:
        ValueError: so it is.
    """
    try:
        json_loads(text)
    except RecursionError:
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """Return what makes the exception again; an ``OSError`` keeps its file names beside its ``args``."""
    if isinstance(error, OSError):
        reduced = OSError.__reduce__(error)
        return tuple(reduced[1])
    return error.args


def _traceback(error: BaseException) -> str | None:
    """Return the traceback as text; of an exception that came from elsewhere, only where it was raised first."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, str) and note.startswith(_NOTE):
            return note.removeprefix(_NOTE)
    return "".join(traceback.format_exception(error)) if error.__traceback__ else None


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__} whose repr() cannot be made>"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be read>"


def _culprit(value: Any, serializer: str, where: str = "a value") -> tuple[str, Any]:
    """Find the innermost part that cannot be encoded, and how to reach it."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"{where}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"{where}[{number}]", part) for number, part in enumerate(value)]
    for path, part in parts:
        try:
            dumps(part, serializer=serializer)
        except Exception:
            return _culprit(part, serializer, path)
    return where, value
