"""The time that a run may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RunLimit"]


@dataclass(frozen=True, slots=True)
class RunLimit:
    """The time that a whole run may take, over all its executions, in microseconds."""

    timeout: int
    #: When it is over.
    deadline: int

    @classmethod
    def read(cls, facts: Mapping[str, Any] | None) -> RunLimit | None:
        """Return what the facts of a start say; None if nothing."""
        match (facts or {}).get("limit"):
            case [int(timeout), int(deadline)]:
                return cls(timeout, deadline)
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """What the start of an execution keeps of it."""
        return {"limit": [self.timeout, self.deadline]}

    def from_now(self, now: int) -> RunLimit:
        """Return the same time, counted from now on."""
        return RunLimit(self.timeout, now + self.timeout)
