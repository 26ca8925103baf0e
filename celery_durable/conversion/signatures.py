"""What the annotations of a function say of its arguments and its result."""

from __future__ import annotations

import inspect
import logging
import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .adapters import Adapter, Decoder, fitting
from .annotations import hints_of

__all__ = ["AttributeTypes", "SignatureTypes", "returned_by"]

log: logging.Logger = logging.getLogger("celery_durable.payload")


class SignatureTypes:
    """The annotations of a function that count: of its parameters, and of what it returns.

    Args:
        function: an orchestrator, or an operation of an entity.
        decoder: makes what decodes to them.
        is_static: its first parameter is no context, and no object.
        is_used: whether annotations count.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        decoder: Decoder,
        *,
        is_static: bool = False,
        is_used: bool = True,
    ) -> None:
        self._first = () if is_static else (None,)
        self._signature = inspect.signature(function)
        #: Parameter -> what decodes it.
        self._parameters: dict[str, Adapter] = {}
        names = list(self._signature.parameters)[len(self._first) :]  # after the context
        hints = hints_of(function) if is_used else {}
        for name in names:
            if name in hints and (found := _adapter(decoder, function, name, hints[name])):
                self._parameters[name] = found
        self._returns: Adapter | None = None
        if "return" in hints:
            self._returns = _adapter(decoder, function, "return", returned_by(hints["return"]))

    @property
    def decodes_result(self) -> bool:
        """Whether the type of the result counts."""
        return self._returns is not None

    def __bool__(self) -> bool:
        return bool(self._parameters)

    def decoded(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return arguments as the types say that are named.

        Raises:
            PayloadError: one does not fit; it is named with the first complaint.
        """
        if not self._parameters:
            return args, kwargs
        try:
            bound = self._signature.bind(*self._first, *args, **kwargs)
        except TypeError:
            return args, kwargs  # the call says so
        for name, value in list(bound.arguments.items())[len(self._first) :]:
            parameter = self._signature.parameters[name]
            adapter = self._parameters.get(name)
            if adapter is None or (value is None and parameter.default is None):
                continue
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    found: Any = tuple(
                        fitting(adapter, f"argument {name!r}", each) for each in value
                    )
                case inspect.Parameter.VAR_KEYWORD:
                    found = {
                        key: fitting(adapter, f"argument {key!r}", each)
                        for key, each in value.items()
                    }
                case _:
                    found = fitting(adapter, f"argument {name!r}", value)
            bound.arguments[name] = found
        return bound.args[len(self._first) :], bound.kwargs

    def result(self, value: Any) -> Any:
        """Return a result as the type that the orchestrator names.

        Raises:
            PayloadError: it does not fit.
        """
        return value if self._returns is None else fitting(self._returns, "its result", value)


class AttributeTypes:
    """The annotations of a class whose objects are entities that count."""

    def __init__(self, cls: type, decoder: Decoder) -> None:
        self._class = cls
        self._adapters = {
            name: found
            for name, hint in hints_of(cls).items()
            if typing.get_origin(hint) is not typing.ClassVar
            and (found := _adapter(decoder, cls, name, hint)) is not None
        }

    def decoded_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state as the annotations say.

        Raises:
            PayloadError: an attribute does not fit; it is named with the first complaint.
        """
        found = dict(state)
        for name in self._adapters.keys() & state.keys():
            if state[name] is not None or getattr(self._class, name, ...) is not None:
                found[name] = fitting(self._adapters[name], f"attribute {name!r}", state[name])
        return found


def _adapter(decoder: Decoder, function: Any, name: str, hint: Any) -> Adapter | None:
    try:
        return decoder.adapter(hint)
    except Exception:
        log.warning(
            "the annotation of %r of %r cannot be used, and its values stay as JSON gives them",
            name,
            function,
            exc_info=True,
        )
        return None


def returned_by(hint: Any) -> Any:
    """Return the type of a result: of a generator it is the third part, of an iterator it is not
    known.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (abc.Generator, abc.Coroutine):
        return args[2] if len(args) == 3 else Any
    if origin is abc.Awaitable:
        return args[0]
    return Any if origin in (abc.Iterator, abc.Iterable) else hint
