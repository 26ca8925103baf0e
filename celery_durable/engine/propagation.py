"""Context that travels: what was captured where an orchestration was started, and is there again
wherever its code or its activities run.

It is kept with the options of the start (``CanvasOptions.context``): message headers, which every
message of the instance carries, and values of propagators, by their keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from .._errors import ConfigurationError, PayloadError
from ..core.canvas_options import CanvasOptions
from ..core.ports import Codec

__all__ = [
    "ContextNotRestored",
    "Propagator",
    "Propagators",
    "as_context",
    "context_of",
    "kept_context",
]

#: So many bytes may a context have.
_LARGEST = 4_096


@runtime_checkable
class Propagator(Protocol):
    """Captures a value where something is started, and restores it where that runs."""

    #: Names the value in the store.
    key: str

    def capture(self) -> Any:
        """Return a JSON value, or None for nothing."""

    def restore(self, value: Any) -> AbstractContextManager[Any]:
        """Return what surrounds each turn, and each attempt of an activity, with the value."""


class ContextNotRestored(Exception):
    """A propagator could not restore its value: the turn was not taken."""


class Propagators:
    """The propagators of one application, by their keys."""

    def __init__(self) -> None:
        self._by_key: dict[str, Propagator] = {}

    def add(self, propagator: Propagator) -> None:
        """Let a value travel.

        Raises:
            ConfigurationError: another one has that key, or it is no propagator.
        """
        if isinstance(propagator, type):
            raise ConfigurationError(
                f"{propagator!r} is no propagator but a class: give an object, as in"
                f" durable.propagate({propagator.__name__}())"
            )
        key = getattr(propagator, "key", None)
        if not isinstance(propagator, Propagator) or not isinstance(key, str) or not key:
            raise ConfigurationError(
                f"{propagator!r} is no propagator: it needs a key (a text), capture() and"
                " restore(value), which returns a context manager"
            )
        if self._by_key.get(key, propagator) is not propagator:
            raise ConfigurationError(
                f"two propagators have the key {key!r}: {self._by_key[key]!r} and {propagator!r}"
            )
        self._by_key[key] = propagator

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def capture(self, headers: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the context of what is started here and now; None if there is nothing in it.

        Args:
            headers: those that travel.

        Raises:
            PayloadError: a value is no JSON, or all together are too long.
            Exception: what a propagator raises.
        """
        values = {
            key: value
            for key, each in self._by_key.items()
            if (value := each.capture()) is not None
        }
        parts = {"headers": dict(headers), "values": values}
        kept = {name: part for name, part in parts.items() if part}
        if not kept:
            return None
        for key, value in [*headers.items(), *values.items()]:
            _check_json(key, value)
        text = json.dumps(kept, allow_nan=False)
        if len(text.encode()) > _LARGEST:
            raise PayloadError(
                f"a context that travels has at most {_LARGEST:,} bytes, not"
                f" {len(text.encode()):,}: {', '.join([*headers, *values])}"
            )
        return kept

    def restored(self, codec: Codec, canvas: str | None) -> AbstractContextManager[Any]:
        """Surround a turn or an attempt with the values of its instance.

        A value whose propagator is not here is left alone.

        Args:
            codec: decodes.
            canvas: the kept options of the instance.

        Raises:
            ContextNotRestored: a propagator raises, within the ``with`` statement.
        """
        if not self._by_key:
            return nullcontext()
        return self.restored_values(kept_context(codec, canvas).get("values") or {})

    def restored_values(self, values: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Surround code with these values; see ``restored``."""
        return self._restored(values) if values and self._by_key else nullcontext()

    def captured_values(self) -> Mapping[str, Any]:
        """Return the values here and now, for an operation that is sent to an entity.

        Raises:
            PayloadError: see ``capture``.
        """
        kept: Mapping[str, Any] = (self.capture({}) or {}).get("values") or {}
        return kept

    @contextmanager
    def _restored(self, values: Mapping[str, Any]) -> Iterator[None]:
        raised: BaseException | None = None
        with ExitStack() as stack:
            for key, each in self._by_key.items():
                if key not in values:
                    continue
                try:
                    stack.enter_context(each.restore(values[key]))
                except Exception as error:
                    raise ContextNotRestored(
                        f"the context {key!r} could not be restored by {each!r}:"
                        f" {type(error).__name__}: {error}"
                    ) from error
            try:
                yield
            except BaseException as error:
                raised = error
                raise
        if raised is not None:
            raise raised  # no propagator decides that nothing has failed


def _check_json(key: str, value: Any) -> None:
    """Refuse what JSON would not give back.

    Raises:
        PayloadError: it is no plain JSON.
    """
    try:
        is_faithful = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"a context that travels must be JSON, and {key!r} is not: {error}"
        ) from error
    if not is_faithful:
        raise PayloadError(f"a context that travels must be plain JSON; {key!r} is {value!r}")


def kept_context(codec: Codec, canvas: str | None) -> Mapping[str, Any]:
    """Return the context that is kept with an instance's options, as ``capture`` gave it.

    Raises:
        PayloadError: the kept options are damaged.
    """
    return CanvasOptions.read(codec, canvas).context if canvas else {}


def as_context(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return headers and values of a kept context, by their names; read-only."""
    return MappingProxyType({**(kept.get("headers") or {}), **(kept.get("values") or {})})


def context_of(codec: Codec, canvas: str | None) -> Mapping[str, Any]:
    """Return what an instance was given at its start: headers and values, by their names.

    Raises:
        PayloadError: the kept options are damaged.
    """
    return as_context(kept_context(codec, canvas))
