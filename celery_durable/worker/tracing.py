"""What makes the bodies of activities visible to a tracer; ``telemetry.tracing`` fills it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..engine.records import ActivityAttemptId
from ..engine.scope import Scope

__all__ = ["Tracing"]


class Tracing(Protocol):
    """Surrounds what a worker runs and sends."""

    def activity(
        self, scope: Scope, ticket: ActivityAttemptId, request: Any
    ) -> AbstractContextManager[Any]:
        """Surround a body; what it raises passes through."""

    def sending(self, headers: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Surround the sending of an activity whose message has these headers."""
