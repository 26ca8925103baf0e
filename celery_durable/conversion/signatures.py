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

__all__ = ["SignatureTypes"]

log: logging.Logger = logging.getLogger("celery_durable.payload")


class SignatureTypes:
    """The annotations of one orchestrator that count: of its parameters, and of what it returns."""

    def __init__(
        self, function: Callable[..., Any], decoder: Decoder, *, is_used: bool = True
    ) -> None:
        self._decoder = decoder
        self._signature = inspect.signature(function)
        #: Parameter -> what decodes it.
        self._parameters: dict[str, Adapter] = {}
        names = list(self._signature.parameters)[1:]  # after the context
        hints = hints_of(function) if is_used else {}
        for name in names:
            if name in hints and (found := self._adapter(function, name, hints[name])) is not None:
                self._parameters[name] = found
        self._returns: Adapter | None = None
        if "return" in hints:
            self._returns = self._adapter(function, "return", _returned(hints["return"]))

    def _adapter(self, function: Any, name: str, hint: Any) -> Adapter | None:
        try:
            return self._decoder.adapter(hint)
        except Exception:
            log.warning(
                "the annotation of %r of %r cannot be used, and its values stay as JSON gives them",
                name,
                function,
                exc_info=True,
            )
            return None

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
            bound = self._signature.bind(None, *args, **kwargs)
        except TypeError:
            return args, kwargs  # the call says so
        for name, value in list(bound.arguments.items())[1:]:
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
        return bound.args[1:], bound.kwargs

    def result(self, value: Any) -> Any:
        """Return a result as the type that the orchestrator names.

        Raises:
            PayloadError: it does not fit.
        """
        return value if self._returns is None else fitting(self._returns, "its result", value)


def _returned(hint: Any) -> Any:
    """Return the type of a result: of a generator it is the third part, of an iterator it is not
    known.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (abc.Generator, abc.Coroutine):
        return args[2] if len(args) == 3 else Any
    if origin is abc.Awaitable:
        return args[0]
    return Any if origin in (abc.Iterator, abc.Iterable) else hint
