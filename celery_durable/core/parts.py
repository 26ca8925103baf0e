"""The kinds of commands of one execution, and who takes which input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .context import OrchestrationContext
from .history import Event
from .kinds.kind import Kind, Registry

__all__ = ["Parts", "context_class"]


class Parts(dict[type[Any], Any]):
    """The parts of an execution by their classes; each is made at its first use."""

    __slots__ = ("_foreseen", "_host", "_kinds", "by_event")

    def __init__(self, host: Any, kinds: Registry) -> None:
        super().__init__()
        self._host, self._kinds, self._foreseen = host, kinds.kinds, kinds.foreseen
        #: Who takes an input.
        self.by_event: _ByEvent = _ByEvent(self.__getitem__, kinds)

    def __missing__(self, kind: type[Any]) -> Any:
        part = self[kind] = kind(self._host)
        return part

    def in_order(self) -> list[Any]:
        """Return the kinds of commands, in the order in which they ask again after a rewind."""
        return [self[kind] for kind in self._kinds if kind in self]

    def foresee(self, events: Iterable[Event]) -> None:
        """Keep what the code asks of history before its event is reached."""
        for event in events:
            if event.kind in self._foreseen:
                self[self._foreseen[event.kind]].foresee(event)


class _ByEvent(dict[str, Kind]):
    """Input -> the part that takes it; filled at the first event of a kind."""

    __slots__ = ("_kinds", "_of")

    def __init__(self, of: Callable[[type[Any]], Any], kinds: Registry) -> None:
        super().__init__()
        self._of, self._kinds = of, kinds.inputs

    def __missing__(self, event: str) -> Kind:
        part: Kind = self._of(self._kinds[event])
        self[event] = part
        return part


def context_class(kinds: Registry) -> type[OrchestrationContext]:
    """Return the class of ``ctx``, with what kinds from outside add to it."""
    parts = tuple(kind.context for kind in kinds.kinds if kind.context is not None)
    return (
        type("OrchestrationContext", (*parts, OrchestrationContext), {})
        if parts
        else (OrchestrationContext)
    )
