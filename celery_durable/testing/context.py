"""A ``durable_context()`` without an orchestration: for tests of the body of a task alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..core.flags import check_flags
from ..engine.completion_tokens import sealed
from ..engine.records import ActivityAttemptId
from ..worker.activity_context import ActivityContext, current

__all__ = ["FakeContext", "fake_durable_context"]

_FACTS: dict[str, Any] = {
    "instance_id": "instance",
    "idempotency_key": "execution-1",
    "deadline": None,
    "context": MappingProxyType({}),
}


@dataclass
class FakeContext(ActivityContext):
    """Stands for the context of an activity; keeps what the body tells it."""

    #: What each heartbeat gave, in order.
    heartbeats: list[Any] = field(default_factory=list)
    #: The tokens that the body has deferred its completion to.
    deferred: list[str] = field(default_factory=list)

    @property
    def cancelled(self) -> bool:
        """As the test says."""
        return self._is_canceled

    def defer(self) -> str:
        """Give a token of this test alone, which completes nothing."""
        if not self.deferred:
            self.deferred.append(sealed("of a test", self._ticket))
        return self.deferred[0]

    def heartbeat(self, details: Any = None) -> None:
        """Keep what it gives."""
        self.heartbeats.append(details)


@contextmanager
def fake_durable_context(
    *, attempt: int = 1, details: Any = None, cancelled: bool = False, **facts: Any
) -> Iterator[FakeContext]:
    """Let ``durable_context()`` give a context within the block, and give it.

    Args:
        attempt: which attempt this is, from 1.
        details: what the last heartbeat of a lost attempt gave.
        cancelled: whether the orchestration does not want the result any more.
        **facts: ``instance_id``, ``idempotency_key``, ``deadline`` and ``context``.

    Raises:
        TypeError: there is no such fact.

    Example:
        >>> with fake_durable_context(attempt=2, details={"page": 7}) as context:
        ...     resize("a.png")
        >>> context.heartbeats
        [{'page': 8}]
    """
    check_flags(cancelled=cancelled)
    if unknown := facts.keys() - _FACTS.keys():
        raise TypeError(
            f"fake_durable_context() knows no {', '.join(sorted(unknown))}: it takes attempt,"
            f" details, cancelled, {', '.join(_FACTS)}"
        )
    nothing: Any = None
    context = FakeContext(
        attempt=attempt,
        details=details,
        _runtime=nothing,
        _ticket=ActivityAttemptId("execution", 1, attempt),
        _is_canceled=cancelled,
        **{**_FACTS, **facts},
    )
    token = current.set(context)
    try:
        yield context
    finally:
        current.reset(token)
