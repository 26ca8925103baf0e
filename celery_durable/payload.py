"""Values and exceptions to text and back; exceptions without running their code.

A failure is kept as its facts: type, message, arguments, attributes, traceback, the members of a
group, and what caused it, each the same way again. Whatever an exception is, it can be kept: what
is too long is cut, what cannot be encoded becomes text.
"""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kombu.utils.json import dumps as json_dumps

from ._errors import ActivityError, DurableError, PayloadError
from .conversion import AttributeTypes, Converters, Decoder, SignatureTypes, fitting
from .encoding import ValueCodec
from .failures import DEEPEST_FAILURE, MOST_FAILURES, NOTE, FailureWriter, cut, text_of

__all__ = ["PayloadCodec"]

log: logging.Logger = logging.getLogger("celery_durable.payload")
#: A failure takes no more than this, however long its texts are and however many exceptions it is
#: made of.
LARGEST_FAILURE = 100_000
LONGEST_TEXT = 10_000
_MEASURES = ((20_000, MOST_FAILURES), (5_000, MOST_FAILURES), (1_000, 20), (200, 10))
_BUILT_IN = frozenset({"json", "pickle", "yaml", "msgpack"})

Verdict = bool | list[Any]


class PayloadCodec(ValueCodec):
    """Encodes values and exceptions with one serializer, decodes what is accepted.

    Args:
        serializer: a name that kombu knows, such as ``json``.
        accept: content types or serializer names that may be read beside the serializer's own and
            JSON; pickle only if it is the serializer, however it is named.
        exception_modules: top-level packages whose exceptions may be rebuilt, asked for at each
            use.
        warning: the length above which an encoded value is logged.
        limit: the length above which it is refused.
        dump: makes ``(args, kwargs)`` of a task, by its name, what Celery sends it: dumps of
            models, where it takes models.
    """

    def __init__(
        self,
        serializer: str = "json",
        accept: Iterable[str] = (),
        exception_modules: Callable[[], Iterable[str]] = tuple,
        *,
        warning: int | None = None,
        limit: int | None = None,
        dump: Callable[..., Any] | None = None,
        converters: Converters | None = None,
    ) -> None:
        super().__init__(serializer, accept, warning=warning, limit=limit, converters=converters)
        self._exception_modules = exception_modules
        self._dump = dump
        self._decoder = Decoder(self.converters)
        #: Function or class -> what its annotations say.
        self._types: dict[Any, Any] = {}

    def encode_call(
        self, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return arguments of a task encoded, and as Celery sends them.

        Raises:
            PayloadError: one cannot be encoded.
        """
        if self._dump is not None:
            args, kwargs = self._dump(task, args, kwargs)
        given = [list(args), kwargs]
        text, has_converted = self._encode_telling(given)
        self._bounded(given, text)
        if has_converted:
            plain, kwargs = self.decode(text)
            args = tuple(plain)
        return text, args, kwargs

    def as_type(self, value: Any, wanted: Any, what: str) -> Any:
        """Return a decoded value as an annotation says.

        Raises:
            PayloadError: it does not fit.
        """
        if self.serializer == "pickle":
            return value
        self._decoder.refresh(self._types)
        adapter = self._decoder.adapter(wanted)
        return value if adapter is None else fitting(adapter, what, value)

    def types_of(self, function: Callable[..., Any], *, is_static: bool = False) -> SignatureTypes:
        """Return what the annotations of an orchestrator or an operation say.

        Its first parameter is a context or an object, unless it is static.
        """
        self._decoder.refresh(self._types)
        found = self._types.get(function)
        if found is None:
            found = self._types[function] = SignatureTypes(
                function, self._decoder, is_static=is_static, is_used=self.serializer != "pickle"
            )
        return found

    def attributes_of(self, cls: type, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state as the annotations of a class say.

        Raises:
            PayloadError: an attribute does not fit.
        """
        if self.serializer == "pickle":
            return state
        self._decoder.refresh(self._types)
        found = self._types.get(cls)
        if found is None:
            found = self._types[cls] = AttributeTypes(cls, self._decoder)
        return found.decoded_state(state)

    # -- to text -----------------------------------------------------------------------------------

    def encode_failure(self, error: BaseException) -> str:
        """Encode an exception with its type, arguments, attributes, traceback, members and cause.

        Never raises.

        It takes at most some 100 KB: longer texts are cut, and say so.
        """
        for longest, most in _MEASURES:
            try:
                payload = self._encode(FailureWriter(self._encode, longest, most).facts_of(error))
            except Exception:
                break
            if len(payload) <= LARGEST_FAILURE:
                return payload
        cls = type(error)
        bare: dict[str, Any] = {
            "module": str(cls.__module__),
            "type": str(cls.__qualname__),
            "args": [],
            "traceback": None,
        }
        for message in (cut(text_of(error), _MEASURES[-1][0]), ""):
            try:
                return self._encode({**bare, "message": message})
            except Exception:  # noqa: S112
                continue
        return str(json_dumps({**bare, "message": ""}))

    def describe_error(self, error: BaseException) -> str:
        """Return in a line what is to be seen of an exception without decoding: its type and its
        message.

        With a serializer of the application's own, which may encrypt, it is the type alone.
        """
        name = type(error).__qualname__
        if self.serializer not in _BUILT_IN:
            return name
        leaf = _first_leaf(error)
        first = (
            ""
            if leaf is error
            else f"; the first of them is {type(leaf).__qualname__}: {text_of(leaf)}"
        )
        return cut(f"{name}: {text_of(error)}{first}", LONGEST_TEXT)

    # -- and back ----------------------------------------------------------------------------------

    def decode_failure(
        self, payload: str, *, may_rebuild: Verdict = True
    ) -> tuple[Exception, Verdict]:
        """Return the exception of a failure, and whether it is its original type: of a group, for
        each of its members.

        Only classes of builtins, of modules imported already and of the allowed packages are
        rebuilt, and without calling ``__init__``; anything else becomes an ``ActivityError``, and
        so does what no coroutine can raise.

        Args:
            payload: what ``encode_failure`` returned.
            may_rebuild: what was told of it before; nothing else is rebuilt.

        Raises:
            PayloadError: the payload is no failure.
        """
        facts = self.decode(payload)
        if not isinstance(facts, dict) or "type" not in facts:
            raise PayloadError("a stored failure is damaged: it names no exception type")
        return self._exception_of(facts, may_rebuild)

    def _exception_of(
        self, facts: dict[str, Any], may_rebuild: Verdict, depth: int = 0, *, is_cause: bool = False
    ) -> tuple[Exception, Verdict]:
        members: list[Exception] = []
        verdicts: list[Verdict] = []
        for number, member in enumerate(
            _parts(facts.get("members")) if depth < DEEPEST_FAILURE else ()
        ):
            error, verdict = self._exception_of(
                member, _verdict_of(number, may_rebuild), depth + 1, is_cause=is_cause
            )
            members.append(error)
            verdicts.append(verdict)
        found = self._rebuilt(facts, members, is_cause) if may_rebuild else None
        error = found or _stand_in(facts)
        if (asked := facts.get("retry_after")) is not None:
            self._take_retry_after(error, asked)
        if depth < DEEPEST_FAILURE:
            self._link(error, facts, depth)
        return error, (verdicts or True) if found is not None else False

    def _take_retry_after(self, error: Exception, payload: Any) -> None:
        """Give an exception back when it asks to be tried again, if it does not tell by itself."""
        try:
            if getattr(error, "retry_after", None) is None:
                asked = self.decode(payload)
                known = error.facts if isinstance(error, DurableError) else error.__dict__
                known["retry_after"] = asked
        except Exception:
            log.debug("a failure's retry_after could not be read", exc_info=True)

    def _link(self, error: Exception, facts: dict[str, Any], depth: int) -> None:
        """Give an exception its cause: an original type only where every process of the application
        can have it.
        """
        for name in ("context", "cause"):
            for linked in _parts([facts.get(name)]):
                _set(
                    error,
                    f"__{name}__",
                    self._exception_of(linked, True, depth + 1, is_cause=True)[0],
                )

    def _rebuilt(
        self, facts: dict[str, Any], members: list[Exception], is_cause: bool
    ) -> Exception | None:
        cls = self._exception_class(str(facts.get("module")), str(facts["type"]), is_cause)
        if cls is None:
            return None
        try:
            args = tuple(self.decode(arg) for arg in facts.get("args") or ())
            state = self.decode(facts["state"]) if facts.get("state") else {}
            if not isinstance(state, dict):
                return None
            state.pop("__notes__", None)
            if issubclass(cls, ExceptionGroup):
                args = (*args[:1], members)
            if cls.__module__ == "builtins":  # these keep what they know in their own __init__
                error: Exception = cls(*args)
            else:
                error = cls.__new__(cls, *args)
                _set(error, "args", args)
            if issubclass(cls, DurableError):
                error.__dict__["facts"] = state
            else:
                error.__dict__.update(state)
        except Exception:
            return None
        _take_notes(error, facts)
        return error

    def _exception_class(self, module: str, name: str, is_cause: bool) -> type[Exception] | None:
        if module == "builtins":
            found: Any = getattr(builtins, name, None)
        else:
            is_allowed = module.partition(".")[0] in set(self._exception_modules())
            if is_cause and not is_allowed:
                return None
            if module not in sys.modules and is_allowed:
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
        if not (isinstance(found, type) and issubclass(found, Exception)) or issubclass(
            found, _NOT_RAISED
        ):
            return None
        return found if (found.__module__, found.__qualname__) == (module, name) else None


#: What a coroutine cannot raise: Python makes it a ``RuntimeError``, and a future refuses it.
_NOT_RAISED = (StopIteration,)


def _verdict_of(number: int, group: Verdict) -> Verdict:
    """Return what was told of one member of a group."""
    if not isinstance(group, list):
        return group is True
    found = group[number] if number < len(group) else False
    return found if isinstance(found, list) else found is True


def _parts(found: Any) -> list[dict[str, Any]]:
    """Return those of some stored facts that are a failure's."""
    return (
        [each for each in found if isinstance(each, dict) and "type" in each]
        if isinstance(found, list)
        else []
    )


def _stand_in(facts: dict[str, Any]) -> ActivityError:
    name, message, trace = (
        f"{facts.get('module')}.{facts['type']}",
        str(facts.get("message")),
        facts.get("traceback"),
    )
    leaf = facts
    for _ in range(DEEPEST_FAILURE):
        leaf = next(iter(_parts(leaf.get("members"))), leaf)
    first = "" if leaf is facts else f"; the first of them is {leaf['type']}: {leaf.get('message')}"
    return ActivityError(
        f"{name}: {message}{first}",
        type=name,
        message=message,
        traceback=trace if isinstance(trace, str) else None,
    )


def _first_leaf(error: BaseException) -> BaseException:
    for _ in range(DEEPEST_FAILURE):
        if not isinstance(error, BaseExceptionGroup):
            break
        error = error.exceptions[0]
    return error


def _take_notes(error: Exception, facts: dict[str, Any]) -> None:
    notes: list[str] = []
    if isinstance(missing := facts.get("missing"), int):
        notes.append(f"{missing} more exceptions of this group were not recorded")
    if isinstance(trace := facts.get("traceback"), str) and trace:
        notes.append(NOTE + trace)
    if notes:
        error.__dict__["__notes__"] = notes


def _set(error: BaseException, name: str, value: Any) -> None:
    """Set what every exception has.

    The class itself may refuse that, as a frozen dataclass does.
    """
    vars(BaseException)[name].__set__(error, value)
