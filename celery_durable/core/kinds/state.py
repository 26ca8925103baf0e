"""``ctx.state``: what queries look at; it lives with the code, and is stored nowhere."""

from __future__ import annotations

from types import SimpleNamespace

from ..ports import Host
from .kind import ContextPart, Kind

__all__ = ["State", "StateContext"]


class State(Kind):
    """The namespace of one execution."""

    name = "state"

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.namespace: SimpleNamespace = SimpleNamespace()


class StateContext(ContextPart):
    """What the orchestrator shows to queries."""

    @property
    def state(self) -> SimpleNamespace:
        """A namespace for what queries look at (``@orchestrator.query``).

        It is empty when an execution begins, rebuilt by every replay, and stored nowhere.

        Example:
            >>> ctx.state.address = order["address"]
        """
        return self._host.of(State).namespace
